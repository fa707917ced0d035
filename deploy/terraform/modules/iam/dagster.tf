# Dagster: web server, daemon, code location and run workers. They keep the books and start what costs money.

data "aws_iam_policy_document" "dagster" {
  statement {
    sid       = "Buckets"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"]
    resources = [var.bucket_arns.data, var.bucket_arns.archive]
  }
  statement {
    sid       = "Read"
    actions   = ["s3:GetObject", "s3:GetObjectVersion"]
    resources = ["${var.bucket_arns.data}/*", "${var.bucket_arns.archive}/*", "${var.bucket_arns.logs}/dagster/*"]
  }
  # Nothing in the archive is deleted: what is registered stays.
  statement {
    sid       = "Write"
    actions   = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = ["${var.bucket_arns.data}/*", "${var.bucket_arns.archive}/*", "${var.bucket_arns.logs}/dagster/*"]
  }
  # A refused slice is moved aside; compute logs go with the run that is deleted.
  statement {
    sid       = "Move"
    actions   = ["s3:DeleteObject"]
    resources = ["${var.bucket_arns.data}/inbox/*", "${var.bucket_arns.logs}/dagster/*"]
  }
  statement {
    sid       = "ComputeLogs"
    actions   = ["s3:ListBucket"]
    resources = [var.bucket_arns.logs]
    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["dagster/*"]
    }
  }
  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey", "kms:DescribeKey"]
    resources = [var.kms_key_arn]
  }
  statement {
    sid       = "Images"
    actions   = ["ecr:DescribeImages", "ecr:DescribeRepositories"]
    resources = values(var.repository_arns)
  }
  statement {
    sid       = "Events"
    actions   = ["events:PutEvents"]
    resources = [var.event_bus_arn]
  }
  statement {
    sid       = "Metrics"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"] # the action knows no resources; the namespace is its border
    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = ["TrainingAssets"]
    }
  }
  statement {
    sid       = "Logs"
    actions   = ["logs:GetLogEvents", "logs:DescribeLogStreams", "logs:FilterLogEvents"]
    resources = flatten([for arn in local.log_group_arns : [arn, "${arn}:*"]])
  }
  statement {
    sid       = "LogGroups"
    actions   = ["logs:DescribeLogGroups"]
    resources = ["${local.arn}:logs:${local.here}:log-group:*"]
  }
  # That a secret is there, before anything starts; its value is for the tasks that ask for it by name.
  statement {
    sid       = "SecretNames"
    actions   = ["secretsmanager:DescribeSecret"]
    resources = [local.secret_arns]
  }
  dynamic "statement" {
    for_each = var.file_system_arn == null ? [] : [1]
    content {
      sid     = "FileSystem"
      actions = ["fsx:CreateDataRepositoryTask", "fsx:CancelDataRepositoryTask"]
      resources = [
        var.file_system_arn,
        "${local.arn}:fsx:${local.here}:task/*",
      ]
    }
  }
  dynamic "statement" {
    for_each = var.file_system_arn == null ? [] : [1]
    content {
      sid       = "FileSystemState"
      actions   = ["fsx:DescribeFileSystems", "fsx:DescribeDataRepositoryTasks", "fsx:DescribeDataRepositoryAssociations"]
      resources = ["${local.arn}:fsx:${local.here}:*"]
    }
  }
  dynamic "statement" {
    for_each = length(var.datasync_task_arns) == 0 ? [] : [1]
    content {
      sid = "Transfers"
      actions = [
        "datasync:StartTaskExecution", "datasync:DescribeTask", "datasync:DescribeTaskExecution",
        "datasync:CancelTaskExecution", "datasync:ListTaskExecutions",
      ]
      resources = flatten([for arn in var.datasync_task_arns : [arn, "${arn}/execution/*"]])
    }
  }
}

locals {
  secret_arns    = "${local.arn}:secretsmanager:${local.here}:secret:${var.name}/*"
  log_group_arns = [for group in var.log_groups : "${local.arn}:logs:${local.here}:log-group:${group}"]
}
