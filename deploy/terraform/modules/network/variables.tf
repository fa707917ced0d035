variable "name" {
  description = "Prefix of all names."
  type        = string
}

variable "cidr" {
  description = "Addresses of the network; each zone gets a sixteenth."
  type        = string
  default     = "10.42.0.0/16"
}

variable "zones" {
  description = "Availability zones. The first is where the file system, the endpoints and all training nodes are."
  type        = list(string)
}

variable "interface_endpoints" {
  description = "AWS services that are reached from inside, by the last part of the endpoint's name. Each costs by the hour."
  type        = set(string)
  default = [
    "ecr.api", "ecr.dkr", "events", "fsx", "kms", "logs", "monitoring", "secretsmanager", "sns", "sqs", "ssm",
    "ssmmessages", "sts",
  ]
}

variable "kms_key_arn" {
  description = "Key of the flow logs."
  type        = string
}
