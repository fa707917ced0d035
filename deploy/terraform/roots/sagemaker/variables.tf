variable "region" {
  description = "AWS region."
  type        = string
}

variable "zones" {
  description = "Two zones or more. The first one has the GPU capacity: file system and all training nodes are there."
  type        = list(string)
  validation {
    condition     = length(var.zones) >= 2
    error_message = "RDS and EKS want subnets in two zones at least."
  }
}

variable "projects" {
  description = "Projects of the recipes, with what their alarms go by (modules/observability)."
  type        = map(object({ run_cap_usd = number, stalled_minutes = optional(number, 30) }))
}

variable "monthly_budget_usd" {
  description = "What the account may cost in a month before people are told."
  type        = number
}

variable "alarm_emails" {
  description = "Who is told of alarms."
  type        = set(string)
  default     = []
}

variable "file_system" {
  description = "FSx for Lustre (modules/data)."
  type        = object({ capacity_gib = number, mb_per_s_per_tib = number })
  default     = { capacity_gib = 1200, mb_per_s_per_tib = 250 }
}

variable "database" {
  description = "Dagster's PostgreSQL (modules/dagster)."
  type = object({
    instance_class = optional(string, "db.t4g.medium")
    storage_gib    = optional(number, 50)
    multi_az       = optional(bool, true)
  })
  default = {}
}

variable "datasync_task_arns" {
  description = "DataSync tasks that staging may run."
  type        = list(string)
  default     = []
}

variable "image_pushers" {
  description = "ARNs that may push images. Empty: whoever the account itself lets."
  type        = list(string)
  default     = []
}

variable "destroyable" {
  description = "For a trial: `terraform destroy` takes buckets, images and the database as they are."
  type        = bool
  default     = false
}

variable "tags" {
  description = "More tags for everything."
  type        = map(string)
  default     = {}
}

variable "dagster_image" {
  description = "Dagster's image by digest, once it is pushed. null: everything but Dagster's services is made."
  type        = string
  default     = null
  validation {
    condition     = var.dagster_image == null ? true : can(regex("@sha256:[0-9a-f]{64}$", var.dagster_image))
    error_message = "The image is named by its digest: …@sha256:<64 hexadecimal digits>."
  }
}

variable "secrets" {
  description = "Variables for Dagster's processes → ARN of a secret below training-assets/ in Secrets Manager."
  type        = map(string)
  default     = {}
}

variable "services" {
  description = "The pool of Dagster's own tasks (modules/ecs)."
  type        = object({ instance_type = string, max_nodes = number })
  default     = { instance_type = "m7i.2xlarge", max_nodes = 3 }
}
