variable "name" {
  description = "Prefix of all names."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of the logs."
  type        = string
}

variable "projects" {
  description = "Projects that register models."
  type        = set(string)
  default     = []
}
