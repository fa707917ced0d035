output "kms_key_arn" {
  value = aws_kms_key.this.arn
}

output "buckets" {
  description = "data, archive, logs → name."
  value       = { for kind, bucket in aws_s3_bucket.this : kind => bucket.id }
}

output "bucket_arns" {
  description = "data, archive, logs → ARN."
  value       = { for kind, bucket in aws_s3_bucket.this : kind => bucket.arn }
}

output "repositories" {
  description = "trainer, dagster → address without digest."
  value       = { for kind, repository in aws_ecr_repository.this : kind => repository.repository_url }
}

output "repository_arns" {
  value = { for kind, repository in aws_ecr_repository.this : kind => repository.arn }
}

output "file_system" {
  description = "Id, ARN, DNS name and mount name of the file system; null without one."
  value = one([for found in aws_fsx_lustre_file_system.this : {
    id         = found.id
    arn        = found.arn
    dns_name   = found.dns_name
    mount_name = found.mount_name
  }])
}
