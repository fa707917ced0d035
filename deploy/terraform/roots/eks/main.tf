# A cluster for Dagster and its trainings; what runs in it is Kustomize's (deploy/kustomize).

module "network" {
  source      = "../../modules/network"
  name        = local.name
  zones       = var.zones
  kms_key_arn = module.data.kms_key_arn
  interface_endpoints = [
    "ecr.api", "ecr.dkr", "events", "fsx", "kms", "logs", "monitoring", "secretsmanager", "sns", "sqs", "sts",
    "autoscaling", "ec2", "eks", "elasticloadbalancing",
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

module "eks" {
  source             = "../../modules/eks"
  name               = local.name
  kubernetes_version = var.kubernetes_version
  subnet_ids         = module.network.subnet_ids
  training_subnet_id = module.network.training_subnet_id
  security_group_ids = module.network.security_group_ids
  kms_key_arn        = module.data.kms_key_arn
  admin_arns         = var.admin_arns
  api_cidrs          = var.api_cidrs
  training_groups    = var.training_groups
}

module "dagster" {
  source              = "../../modules/dagster"
  name                = local.name
  kms_key_arn         = module.data.kms_key_arn
  database_subnet_ids = module.network.subnet_ids
  security_group_ids  = module.network.security_group_ids
  database            = var.database
  destroyable         = var.destroyable
}

module "iam" {
  source               = "../../modules/iam"
  name                 = local.name
  roles                = ["trainer"]
  launchers            = []
  oidc_provider        = merge(module.eks.oidc_provider, { namespace = local.name })
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
