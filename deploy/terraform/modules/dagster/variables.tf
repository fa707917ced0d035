variable "name" {
  description = "Prefix of all names."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the database and of its secret."
  type        = string
}

variable "database_subnet_ids" {
  description = "Subnets of the database, in two zones at least."
  type        = list(string)
}

variable "security_group_ids" {
  description = "database and dagster → id."
  type        = map(string)
}

variable "database" {
  description = "Size of the database. multi_az: a second one in another zone takes over."
  type = object({
    instance_class = optional(string, "db.t4g.medium")
    storage_gib    = optional(number, 50)
    multi_az       = optional(bool, true)
  })
  default = {}
}

variable "destroyable" {
  description = "Whether `terraform destroy` takes the database, without a last snapshot."
  type        = bool
  default     = false
}

variable "ecs" {
  description = "Where Dagster runs on ECS; null: elsewhere. image is by digest; secrets: variable → ARN in Secrets Manager."
  type = object({
    cluster_arn       = string
    capacity_provider = string
    vpc_id            = string
    subnet_id         = string
    role_arns         = map(string)
    image             = string
    log_group         = string
    logs_bucket       = string
    inbox             = string
    profile           = string
    mount_point       = optional(string, "/fsx")
    dagster_home      = optional(string, "/home/dagster/ecs")
    environment       = optional(map(string), {})
    secrets           = optional(map(string), {})
  })
  default = null
}
