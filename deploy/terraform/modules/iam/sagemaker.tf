# A SageMaker training job has one role for what ECS splits in two: the platform's part and the training code's.

data "aws_iam_policy_document" "sagemaker" {
  source_policy_documents = [data.aws_iam_policy_document.training_data.json, data.aws_iam_policy_document.pull.json]
  statement {
    sid       = "Channels"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = ["${var.bucket_arns.archive}/sagemaker/*"] # context, output and checkpoints of the jobs
  }
  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
    resources = ["${local.arn}:logs:${local.here}:log-group:/aws/sagemaker/TrainingJobs", "${local.arn}:logs:${local.here}:log-group:/aws/sagemaker/TrainingJobs:*"]
  }
  statement {
    sid       = "Metrics"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"] # the action knows no resources; the namespace is its border
    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = ["/aws/sagemaker/TrainingJobs", "TrainingAssets"]
    }
  }
  # Volumes of the training instances.
  statement {
    sid       = "VolumeKey"
    actions   = ["kms:DescribeKey"]
    resources = [var.kms_key_arn]
  }
  statement {
    sid       = "Volumes"
    actions   = ["kms:CreateGrant"]
    resources = [var.kms_key_arn]
    condition {
      test     = "Bool"
      variable = "kms:GrantIsForAWSResource"
      values   = ["true"]
    }
  }
  # VpcConfig: SageMaker puts its interfaces into our subnets, as this role.
  statement {
    sid     = "Interfaces"
    actions = ["ec2:CreateNetworkInterface"]
    resources = concat(
      ["${local.arn}:ec2:${local.here}:network-interface/*"],
      [for id in var.subnet_ids : "${local.arn}:ec2:${local.here}:subnet/${id}"],
      [for id in var.training_security_group_ids : "${local.arn}:ec2:${local.here}:security-group/${id}"],
    )
  }
  statement {
    sid       = "OwnInterfaces"
    actions   = ["ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface", "ec2:DeleteNetworkInterfacePermission"]
    resources = ["${local.arn}:ec2:${local.here}:network-interface/*"]
    condition {
      test     = "ArnEqualsIfExists"
      variable = "ec2:Subnet"
      values   = [for id in var.subnet_ids : "${local.arn}:ec2:${local.here}:subnet/${id}"]
    }
  }
  statement {
    sid = "Network"
    actions = [
      "ec2:DescribeNetworkInterfaces", "ec2:DescribeVpcs", "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups",
      "ec2:DescribeDhcpOptions", "fsx:DescribeFileSystems",
    ]
    resources = ["*"] # know no resources
  }
}
