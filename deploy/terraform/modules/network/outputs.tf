output "vpc_id" {
  value = aws_vpc.this.id
}

output "subnet_ids" {
  description = "One private subnet per zone, in the order of the zones."
  value       = [for zone in var.zones : aws_subnet.private[zone].id]
}

output "training_subnet_id" {
  description = "The one subnet of all training nodes: EFA does not cross zones, and neither should gradients."
  value       = aws_subnet.private[var.zones[0]].id
}

output "security_group_ids" {
  description = "training, dagster, fsx, database → id."
  value       = { for name, group in aws_security_group.this : name => group.id }
}

output "endpoint_security_group_id" {
  value = aws_security_group.endpoints.id
}
