output "repositories" {
  description = "Where images are pushed."
  value       = module.data.repositories
}

output "buckets" {
  value = module.data.buckets
}

output "role_arns" {
  value = module.iam.role_arns
}

output "cluster_name" {
  value = module.ecs.cluster_name
}

output "queue_url" {
  description = "Events, for a consumer such as deploy/examples/airflow."
  value       = module.observability.queue_url
}

output "profile_environment" {
  description = "What the profile takes from its environment, as Dagster's processes have it."
  value       = local.environment
}
