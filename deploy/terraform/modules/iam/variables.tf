variable "name" {
  description = "Prefix of all names, and the name of the ECS cluster."
  type        = string
}

variable "roles" {
  description = "Which of trainer, execution, sagemaker there are beside dagster and images."
  type        = set(string)
}

variable "launchers" {
  description = "What Dagster may launch on through AWS: ecs, sagemaker. On EKS Kubernetes decides (RBAC)."
  type        = set(string)
  validation {
    condition     = length(setsubtract(var.launchers, ["ecs", "sagemaker"])) == 0
    error_message = "Known launchers are ecs and sagemaker."
  }
}

variable "oidc_provider" {
  description = "EKS: the cluster's OpenID provider and the namespace; dagster, trainer and secrets are then service accounts' roles."
  type        = object({ arn = string, issuer = string, namespace = string })
  default     = null
}

variable "bucket_arns" {
  description = "data, archive, logs."
  type        = object({ data = string, archive = string, logs = string })
}

variable "repository_arns" {
  description = "ECR repositories of our images."
  type        = map(string)
}

variable "kms_key_arn" {
  description = "The key of everything at rest."
  type        = string
}

variable "event_bus_arn" {
  description = "The bus for events (docs/events.md)."
  type        = string
}

variable "file_system_arn" {
  description = "FSx for Lustre; null without one."
  type        = string
  default     = null
}

variable "datasync_task_arns" {
  description = "DataSync tasks that staging may run."
  type        = list(string)
  default     = []
}

variable "database_secret_arns" {
  description = "The secret that RDS keeps for Dagster's database."
  type        = list(string)
  default     = []
}

variable "log_groups" {
  description = "Names of the log groups that tasks write and Dagster reads."
  type        = list(string)
}

variable "subnet_ids" {
  description = "SageMaker: where its jobs must be."
  type        = list(string)
  default     = []
}

variable "training_security_group_ids" {
  description = "SageMaker: the groups its jobs must have."
  type        = list(string)
  default     = []
}

variable "image_pushers" {
  description = "ARNs of people or CI that may become the images role. Empty: whoever the account itself lets."
  type        = list(string)
  default     = []
}
