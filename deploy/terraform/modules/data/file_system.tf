# The fast storage that every process mounts at one path. Two of its directories are linked with
# prefixes of buckets (docs/staging.md): deliveries come in, runs go out. Tasks do both, and say when they are done.

resource "aws_fsx_lustre_file_system" "this" {
  count                           = var.file_system == null ? 0 : 1
  deployment_type                 = "PERSISTENT_2"
  storage_type                    = "SSD"
  storage_capacity                = var.file_system.capacity_gib
  per_unit_storage_throughput     = var.file_system.mb_per_s_per_tib
  file_system_type_version        = "2.15"
  data_compression_type           = "LZ4"
  kms_key_id                      = aws_kms_key.this.arn
  subnet_ids                      = [var.subnet_id]
  security_group_ids              = [var.security_group_id]
  automatic_backup_retention_days = 0 # what must last is in the archive and the data bucket
  copy_tags_to_backups            = true
  weekly_maintenance_start_time   = "7:04:00"
  log_configuration {
    level       = "WARN_ERROR"
    destination = aws_cloudwatch_log_group.fsx.arn
  }
  tags = { Name = var.name }
}

# FSx takes only groups below this name.
resource "aws_cloudwatch_log_group" "fsx" {
  name              = "/aws/fsx/${var.name}"
  retention_in_days = 365
  kms_key_id        = aws_kms_key.this.arn
}

locals {
  links = {
    inbox = { path = "/inbox", uri = "s3://${aws_s3_bucket.this["data"].id}/inbox" }
    runs  = { path = "/store/runs", uri = "s3://${aws_s3_bucket.this["archive"].id}/runs" }
  }
}

resource "aws_fsx_data_repository_association" "link" {
  for_each                         = var.file_system == null ? {} : local.links
  file_system_id                   = aws_fsx_lustre_file_system.this[0].id
  file_system_path                 = each.value.path
  data_repository_path             = each.value.uri
  batch_import_meta_data_on_create = true
  delete_data_in_filesystem        = false
}
