variable "name" {
  description = "Prefix of all names, and the cluster's name."
  type        = string
}

variable "kubernetes_version" {
  description = "Minor version of the control plane: one that EKS supports in standard terms on the day of use."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets of the control plane and of the nodes that always run: two zones."
  type        = list(string)
}

variable "training_subnet_id" {
  description = "Where all training nodes are: one zone, that of the file system."
  type        = string
}

variable "security_group_ids" {
  description = "training and dagster → id."
  type        = map(string)
}

variable "kms_key_arn" {
  description = "Key of Kubernetes' secrets and the control plane's logs."
  type        = string
}

variable "admin_arns" {
  description = "Roles that administer the cluster. Without any, nobody does."
  type        = set(string)
  validation {
    condition     = length(var.admin_arns) > 0
    error_message = "Name at least one role that administers the cluster."
  }
}

variable "api_cidrs" {
  description = "Addresses that reach the API over the internet (of an office, of CI). Empty: only from inside the network."
  type        = list(string)
  default     = []
  validation {
    condition     = !contains(var.api_cidrs, "0.0.0.0/0")
    error_message = "The API is not for everybody: name addresses."
  }
}

variable "system" {
  description = "Nodes for Dagster, Kueue, device plugins and the like."
  type        = object({ instance_type = string, max_nodes = number })
  default     = { instance_type = "m7i.xlarge", max_nodes = 4 }
}

variable "training_groups" {
  description = "Groups of training nodes: name → instance type, nodes at most, spot, EFA interfaces, disk."
  type = map(object({
    instance_type  = string
    max_nodes      = number
    spot           = optional(bool, false)
    efa_interfaces = optional(number, 0)
    disk_gib       = optional(number, 300)
  }))
  default = {}
}
