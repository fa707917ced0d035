# What the ECS launcher and Dagster's EcsRunLauncher call.

data "aws_iam_policy_document" "launch_ecs" {
  statement {
    sid       = "Run"
    actions   = ["ecs:RunTask"]
    resources = ["${local.arn}:ecs:${local.here}:task-definition/${var.name}-*:*"]
    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [local.cluster_arn]
    }
  }
  statement {
    sid       = "Tasks"
    actions   = ["ecs:DescribeTasks", "ecs:StopTask"]
    resources = ["${local.arn}:ecs:${local.here}:task/${var.name}/*"]
  }
  statement {
    sid       = "List"
    actions   = ["ecs:ListTasks"]
    resources = ["*"] # knows container instances only, which come and go
    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [local.cluster_arn]
    }
  }
  # Neither knows resources. What a definition may become is bounded by PassRoles.
  statement {
    sid       = "Definitions"
    actions   = ["ecs:RegisterTaskDefinition", "ecs:DescribeTaskDefinition"]
    resources = ["*"]
  }
  statement {
    sid     = "Tags"
    actions = ["ecs:TagResource"]
    resources = [
      "${local.arn}:ecs:${local.here}:task/${var.name}/*",
      "${local.arn}:ecs:${local.here}:task-definition/${var.name}-*:*",
    ]
    condition {
      test     = "StringEquals"
      variable = "ecs:CreateAction"
      values   = ["RunTask", "RegisterTaskDefinition"]
    }
  }
  statement {
    sid       = "PassRoles"
    actions   = ["iam:PassRole"]
    resources = [for role in ["dagster", "trainer", "execution"] : "${local.arn}:iam::${local.account}:role/${var.name}-${role}"]
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }
  # EcsRunLauncher copies the network of its own task.
  statement {
    sid       = "OwnNetwork"
    actions   = ["ec2:DescribeNetworkInterfaces"]
    resources = ["*"]
  }
  # `profile check` asks whether all is there.
  statement {
    sid       = "CheckCluster"
    actions   = ["ecs:DescribeClusters"]
    resources = [local.cluster_arn]
  }
  statement {
    sid       = "CheckRoles"
    actions   = ["iam:GetRole"]
    resources = [for role in ["trainer", "execution"] : "${local.arn}:iam::${local.account}:role/${var.name}-${role}"]
  }
  # A session to the web server's container: it has no login and no address outside.
  statement {
    sid = "Session"
    actions = [
      "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }
}

locals {
  cluster_arn = "${local.arn}:ecs:${local.here}:cluster/${var.name}"
}
