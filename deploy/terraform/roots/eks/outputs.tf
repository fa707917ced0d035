output "repositories" {
  description = "Where images are pushed."
  value       = module.data.repositories
}

output "buckets" {
  value = module.data.buckets
}

output "role_arns" {
  value = merge(module.iam.role_arns, { autoscaler = module.eks.autoscaler_role_arn })
}

output "cluster_name" {
  value = module.eks.cluster_name
}

output "queue_url" {
  description = "Events, for a consumer such as deploy/examples/airflow."
  value       = module.observability.queue_url
}

# All that the manifests need to know of AWS. What Dagster's processes read from their environment, and what Kustomize puts in
# its places (deploy/kustomize/components/settings).
output "settings" {
  description = "settings.env of an overlay, but for DAGSTER_IMAGE."
  value = join("", [for name, value in {
    AWS_DEFAULT_REGION          = var.region
    DAGSTER_COMPUTE_LOGS_BUCKET = module.data.buckets["logs"]
    DAGSTER_PG_DB               = module.dagster.database.name
    DAGSTER_PG_HOST             = module.dagster.database.host
    DAGSTER_PG_PORT             = module.dagster.database.port
    DAGSTER_ROLE                = module.iam.role_arns["dagster"]
    DATABASE_SECRET             = module.dagster.database.secret_arn
    FILE_SYSTEM                 = try(module.data.file_system.id, "")
    FILE_SYSTEM_DNS             = try(module.data.file_system.dns_name, "")
    FILE_SYSTEM_NAME            = try(module.data.file_system.mount_name, "")
    FILE_SYSTEM_SIZE            = "${var.file_system.capacity_gib}Gi"
    SECRETS_ROLE                = module.iam.role_arns["secrets"]
    TRAINER_ROLE                = module.iam.role_arns["trainer"]
    TRAINING_ASSETS_ARCHIVE     = "s3://${module.data.buckets["archive"]}"
    TRAINING_ASSETS_EVENT_BUS   = module.observability.event_bus.name
    TRAINING_ASSETS_INBOX       = "s3://${module.data.buckets["data"]}/inbox"
    TRAINING_ASSETS_PROFILE     = "eks"
    TRAINING_ASSETS_REGION      = var.region
    TRAINING_ASSETS_STORE       = "/fsx/store"
  } : "${name}=${value}\n"])
}
