output "cluster_arn" {
  value = aws_ecs_cluster.this.arn
}

output "cluster_name" {
  value = aws_ecs_cluster.this.name
}

output "capacity_providers" {
  description = "pool → capacity provider."
  value       = { for name, provider in aws_ecs_capacity_provider.pool : name => provider.name }
}
