variable "name" {
  description = "Prefix of all names."
  type        = string
}

variable "subnet_id" {
  description = "Where the file system is: the training nodes' subnet."
  type        = string
}

variable "security_group_id" {
  description = "The file system's group."
  type        = string
}

variable "file_system" {
  description = "FSx for Lustre: GiB (1200 or a multiple of 2400) and MB/s per TiB (125, 250, 500, 1000). null: none."
  type        = object({ capacity_gib = number, mb_per_s_per_tib = number })
  default     = { capacity_gib = 1200, mb_per_s_per_tib = 250 }
}

variable "destroyable" {
  description = "Whether `terraform destroy` takes buckets and repositories that are not empty."
  type        = bool
  default     = false
}
