output "database" {
  description = "Where Dagster's database is; user and password are in the secret."
  value = {
    host       = aws_db_instance.this.address
    port       = aws_db_instance.this.port
    name       = aws_db_instance.this.db_name
    secret_arn = local.secret_arn
  }
}

output "code_location" {
  description = "On ECS: the code location's host name."
  value       = var.ecs == null ? null : local.location
}
