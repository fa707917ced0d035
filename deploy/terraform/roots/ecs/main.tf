# Dagster and its trainings on one ECS cluster.

module "network" {
  source      = "../../modules/network"
  name        = local.name
  zones       = var.zones
  kms_key_arn = module.data.kms_key_arn
  interface_endpoints = [
    "ecr.api", "ecr.dkr", "events", "fsx", "kms", "logs", "monitoring", "secretsmanager", "sns", "sqs", "sts",
    "ec2", "ecs", "ecs-agent", "ecs-telemetry", "ssm", "ssmmessages",
  ]
}

module "data" {
  source            = "../../modules/data"
  name              = local.name
  subnet_id         = module.network.training_subnet_id
  security_group_id = module.network.security_group_ids["fsx"]
  file_system       = var.file_system
  destroyable       = var.destroyable
}

module "observability" {
  source             = "../../modules/observability"
  name               = local.name
  kms_key_arn        = module.data.kms_key_arn
  projects           = var.projects
  monthly_budget_usd = var.monthly_budget_usd
  alarm_emails       = var.alarm_emails
}

module "ecs" {
  source             = "../../modules/ecs"
  name               = local.name
  training_subnet_id = module.network.training_subnet_id
  security_group_ids = module.network.security_group_ids
  kms_key_arn        = module.data.kms_key_arn
  session_log_group  = module.observability.log_groups["sessions"]
  file_system        = module.data.file_system
  services           = var.services
  training_pools     = var.training_pools
}

module "dagster" {
  source              = "../../modules/dagster"
  name                = local.name
  kms_key_arn         = module.data.kms_key_arn
  database_subnet_ids = module.network.subnet_ids
  security_group_ids  = module.network.security_group_ids
  database            = var.database
  destroyable         = var.destroyable
  ecs = var.dagster_image == null ? null : {
    cluster_arn       = module.ecs.cluster_arn
    capacity_provider = module.ecs.capacity_providers["services"]
    vpc_id            = module.network.vpc_id
    subnet_id         = module.network.training_subnet_id
    role_arns         = module.iam.role_arns
    image             = var.dagster_image
    log_group         = module.observability.log_groups["dagster"]
    logs_bucket       = module.data.buckets["logs"]
    inbox             = "s3://${module.data.buckets["data"]}/inbox"
    profile           = "ecs"
    secrets           = var.secrets
    environment       = local.environment
  }
}

module "iam" {
  source               = "../../modules/iam"
  name                 = local.name
  roles                = ["trainer", "execution"]
  launchers            = ["ecs"]
  bucket_arns          = module.data.bucket_arns
  repository_arns      = module.data.repository_arns
  kms_key_arn          = module.data.kms_key_arn
  event_bus_arn        = module.observability.event_bus.arn
  file_system_arn      = try(module.data.file_system.arn, null)
  datasync_task_arns   = var.datasync_task_arns
  database_secret_arns = [module.dagster.database.secret_arn]
  image_pushers        = var.image_pushers
  log_groups           = values(module.observability.log_groups)
}

# What the launcher's profile (training_assets/profiles) takes from its environment.
locals {
  environment = {
    TRAINING_ASSETS_REGION         = var.region
    TRAINING_ASSETS_ARCHIVE        = "s3://${module.data.buckets["archive"]}"
    TRAINING_ASSETS_EVENT_BUS      = module.observability.event_bus.name
    TRAINING_ASSETS_ECS_CLUSTER    = module.ecs.cluster_name
    TRAINING_ASSETS_EXECUTION_ROLE = module.iam.role_arns["execution"]
    TRAINING_ASSETS_TASK_ROLE      = module.iam.role_arns["trainer"]
    TRAINING_ASSETS_LOG_GROUP      = module.observability.log_groups["trainer"]
  }
}
