# The fast storage that every process mounts at one path. What lies below /data is the data bucket's.

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

resource "aws_fsx_data_repository_association" "data" {
  count                            = var.file_system == null ? 0 : 1
  file_system_id                   = aws_fsx_lustre_file_system.this[0].id
  file_system_path                 = "/data"
  data_repository_path             = "s3://${aws_s3_bucket.this["data"].id}"
  batch_import_meta_data_on_create = true
  delete_data_in_filesystem        = false
  s3 {
    auto_import_policy {
      events = ["NEW", "CHANGED", "DELETED"]
    }
    auto_export_policy {
      events = ["NEW", "CHANGED"]
    }
  }
}
