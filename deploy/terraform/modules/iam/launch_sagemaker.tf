# What the SageMaker launcher and the adapter of SageMaker's model registry call.

data "aws_iam_policy_document" "launch_sagemaker" {
  # A job outside of our subnets and groups is refused, whoever writes it.
  statement {
    sid       = "Create"
    actions   = ["sagemaker:CreateTrainingJob"]
    resources = [local.training_jobs]
    condition {
      test     = "ForAllValues:StringEquals"
      variable = "sagemaker:VpcSubnets"
      values   = var.subnet_ids
    }
    condition {
      test     = "ForAllValues:StringEquals"
      variable = "sagemaker:VpcSecurityGroupIds"
      values   = var.training_security_group_ids
    }
    # ForAllValues holds for no values at all.
    condition {
      test     = "Null"
      variable = "sagemaker:VpcSubnets"
      values   = ["false"]
    }
    condition {
      test     = "Null"
      variable = "sagemaker:VpcSecurityGroupIds"
      values   = ["false"]
    }
  }
  statement {
    sid       = "Jobs"
    actions   = ["sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob", "sagemaker:ListTags"]
    resources = [local.training_jobs]
  }
  statement {
    sid       = "Tags"
    actions   = ["sagemaker:AddTags"]
    resources = concat([local.training_jobs], local.model_packages)
  }
  statement {
    sid       = "List"
    actions   = ["sagemaker:ListTrainingJobs"]
    resources = ["*"] # knows no resources
  }
  statement {
    sid = "Registry"
    actions = [
      "sagemaker:CreateModelPackageGroup", "sagemaker:DescribeModelPackageGroup",
      "sagemaker:CreateModelPackage", "sagemaker:DescribeModelPackage", "sagemaker:ListModelPackages",
      "sagemaker:UpdateModelPackage",
    ]
    resources = local.model_packages
  }
  # `profile check` asks whether all is there.
  statement {
    sid       = "CheckRole"
    actions   = ["iam:GetRole"]
    resources = ["${local.arn}:iam::${local.account}:role/${var.name}-sagemaker"]
  }
  statement {
    sid       = "Check"
    actions   = ["ec2:DescribeSubnets", "ec2:DescribeSecurityGroups", "servicequotas:ListServiceQuotas"]
    resources = ["*"] # know no resources
  }
  statement {
    sid       = "PassRole"
    actions   = ["iam:PassRole"]
    resources = ["${local.arn}:iam::${local.account}:role/${var.name}-sagemaker"]
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["sagemaker.amazonaws.com"]
    }
  }
}

locals {
  training_jobs = "${local.arn}:sagemaker:${local.here}:training-job/${var.name}-*"
  model_packages = [
    "${local.arn}:sagemaker:${local.here}:model-package-group/${var.name}-*",
    "${local.arn}:sagemaker:${local.here}:model-package/${var.name}-*/*",
  ]
}
