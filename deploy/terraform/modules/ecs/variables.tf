variable "name" {
  description = "Prefix of all names, and the cluster's name."
  type        = string
}

variable "training_subnet_id" {
  description = "Where all nodes are: one zone, that of the file system."
  type        = string
}

variable "security_group_ids" {
  description = "training and dagster → id."
  type        = map(string)
}

variable "kms_key_arn" {
  description = "Key of sessions (ECS Exec)."
  type        = string
}

variable "session_log_group" {
  description = "Log group of sessions."
  type        = string
}

variable "file_system" {
  description = "FSx for Lustre that every node mounts; null: none."
  type        = object({ id = string, arn = string, dns_name = string, mount_name = string })
  default     = null
}

variable "mount_point" {
  description = "Where nodes mount the file system; containers get it as a host volume at the same path."
  type        = string
  default     = "/fsx"
}

variable "services" {
  description = "The pool of Dagster's own tasks: web server, daemon, code location and run workers."
  type        = object({ instance_type = string, max_nodes = number })
  default     = { instance_type = "m7i.2xlarge", max_nodes = 3 }
}

variable "training_pools" {
  description = "Capacity providers of training nodes: name → instance type, nodes at most, spot, GPUs, EFA interfaces, disk."
  type = map(object({
    instance_type  = string
    max_nodes      = number
    spot           = optional(bool, false)
    gpu            = optional(bool, true)
    efa_interfaces = optional(number, 0)
    disk_gib       = optional(number, 300)
  }))
  default = {}
}
