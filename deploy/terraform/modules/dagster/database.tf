# PostgreSQL of the instance: private, encrypted, its password made and kept by RDS in Secrets Manager.

data "aws_partition" "current" {}
data "aws_region" "current" {}

resource "aws_db_subnet_group" "this" {
  name       = "${var.name}-dagster"
  subnet_ids = var.database_subnet_ids
}

resource "aws_db_parameter_group" "this" {
  name   = "${var.name}-dagster"
  family = "postgres16"
  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }
  parameter {
    name  = "log_statement"
    value = "ddl"
  }
  parameter {
    name  = "log_min_duration_statement"
    value = "1000" # milliseconds
  }
}

resource "aws_db_instance" "this" {
  #checkov:skip=CKV_AWS_293:On, unless somebody says that this is a trial (destroyable).
  identifier                            = "${var.name}-dagster"
  engine                                = "postgres"
  engine_version                        = "16"
  instance_class                        = var.database.instance_class
  allocated_storage                     = var.database.storage_gib
  max_allocated_storage                 = var.database.storage_gib * 4
  storage_type                          = "gp3"
  storage_encrypted                     = true
  kms_key_id                            = var.kms_key_arn
  db_name                               = "dagster"
  username                              = "dagster"
  manage_master_user_password           = true
  master_user_secret_kms_key_id         = var.kms_key_arn
  iam_database_authentication_enabled   = true
  db_subnet_group_name                  = aws_db_subnet_group.this.name
  vpc_security_group_ids                = [var.security_group_ids["database"]]
  parameter_group_name                  = aws_db_parameter_group.this.name
  publicly_accessible                   = false
  multi_az                              = var.database.multi_az
  backup_retention_period               = 14
  copy_tags_to_snapshot                 = true
  deletion_protection                   = !var.destroyable
  skip_final_snapshot                   = var.destroyable
  final_snapshot_identifier             = "${var.name}-dagster-last"
  auto_minor_version_upgrade            = true
  performance_insights_enabled          = true
  performance_insights_kms_key_id       = var.kms_key_arn
  performance_insights_retention_period = 7
  monitoring_interval                   = 60
  monitoring_role_arn                   = aws_iam_role.monitoring.arn
  enabled_cloudwatch_logs_exports       = ["postgresql", "upgrade"]
}

# RDS would change the password every week, and running processes keep the one they started with: README, "Passwords".
resource "aws_secretsmanager_secret_rotation" "database" {
  #checkov:skip=CKV_AWS_304:A change of the password stops Dagster until it is started again; it must be a planned one.
  secret_id          = local.secret_arn
  rotate_immediately = false
  rotation_rules {
    automatically_after_days = 365
  }
}

locals {
  secret_arn = aws_db_instance.this.master_user_secret[0].secret_arn
}

data "aws_iam_policy_document" "monitoring_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["monitoring.rds.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "monitoring" {
  name               = "${var.name}-rds-monitoring"
  assume_role_policy = data.aws_iam_policy_document.monitoring_trust.json
}

resource "aws_iam_role_policy_attachment" "monitoring" {
  role       = aws_iam_role.monitoring.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}
