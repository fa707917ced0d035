# The instance's own role: what the ECS agent calls, for this cluster. Tasks have roles of their own.

data "aws_iam_policy_document" "node_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "node" {
  statement {
    sid       = "Join"
    actions   = ["ecs:RegisterContainerInstance", "ecs:DeregisterContainerInstance"]
    resources = [aws_ecs_cluster.this.arn]
  }
  statement {
    sid = "Work"
    actions = [
      "ecs:Poll", "ecs:StartTelemetrySession", "ecs:UpdateContainerInstancesState", "ecs:SubmitTaskStateChange",
      "ecs:SubmitContainerStateChange", "ecs:SubmitAttachmentStateChanges",
    ]
    resources = [aws_ecs_cluster.this.arn, "${local.arn}:ecs:${local.here}:container-instance/${var.name}/*"]
  }
  statement {
    sid       = "Find"
    actions   = ["ecs:DiscoverPollEndpoint"]
    resources = ["*"] # knows no resources
  }
}

resource "aws_iam_role" "node" {
  name               = "${var.name}-ecs-node"
  assume_role_policy = data.aws_iam_policy_document.node_trust.json
}

resource "aws_iam_role_policy" "node" {
  name   = "agent"
  role   = aws_iam_role.node.id
  policy = data.aws_iam_policy_document.node.json
}

resource "aws_iam_instance_profile" "node" {
  name = "${var.name}-ecs-node"
  role = aws_iam_role.node.name
}
