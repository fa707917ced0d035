variable "name" {
  description = "Prefix of all names, and the bus's name."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of logs, topic, queues and table."
  type        = string
}

variable "projects" {
  description = "What each project's alarms go by: USD that one run may cost, minutes without a step."
  type        = map(object({ run_cap_usd = number, stalled_minutes = optional(number, 30) }))
}

variable "monthly_budget_usd" {
  description = "What the account may cost in a month before people are told."
  type        = number
}

variable "alarm_emails" {
  description = "Who is told; each address is asked for consent by AWS."
  type        = set(string)
  default     = []
}
