# The example consumer in Step Functions: acts once on each event id, and tells the topic.

resource "aws_dynamodb_table" "seen" {
  name         = "${var.name}-events-seen"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "id"
  attribute {
    name = "id"
    type = "S"
  }
  point_in_time_recovery {
    enabled = true
  }
  server_side_encryption {
    enabled     = true
    kms_key_arn = var.kms_key_arn
  }
}

resource "aws_cloudwatch_log_group" "machine" {
  name              = "/aws/vendedlogs/states/${var.name}-events"
  retention_in_days = 365
  kms_key_id        = var.kms_key_arn
}

resource "aws_sfn_state_machine" "events" {
  name     = "${var.name}-events"
  role_arn = aws_iam_role.events["machine"].arn
  definition = templatefile("${path.module}/../../../examples/step_functions/on_event.asl.json", {
    table = aws_dynamodb_table.seen.name
    topic = aws_sns_topic.alarms.arn
  })
  logging_configuration {
    level                  = "ERROR"
    include_execution_data = true
    log_destination        = "${aws_cloudwatch_log_group.machine.arn}:*"
  }
  tracing_configuration {
    enabled = true
  }
}

locals {
  event_services = { rule = "events.amazonaws.com", machine = "states.amazonaws.com" }
  event_policies = {
    rule    = data.aws_iam_policy_document.rule.json
    machine = data.aws_iam_policy_document.machine.json
  }
}

data "aws_iam_policy_document" "event_trust" {
  for_each = local.event_services
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = [each.value]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

data "aws_iam_policy_document" "rule" {
  statement {
    actions   = ["states:StartExecution"]
    resources = [aws_sfn_state_machine.events.arn]
  }
}

data "aws_iam_policy_document" "machine" {
  statement {
    sid       = "Once"
    actions   = ["dynamodb:PutItem"]
    resources = [aws_dynamodb_table.seen.arn]
  }
  statement {
    sid       = "Tell"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.alarms.arn]
  }
  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]
  }
  # Delivery of execution logs is set up per account, and traces know no resources.
  statement {
    sid = "Logs"
    actions = [
      "logs:CreateLogDelivery", "logs:GetLogDelivery", "logs:UpdateLogDelivery", "logs:DeleteLogDelivery",
      "logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:DescribeResourcePolicies", "logs:DescribeLogGroups",
      "xray:PutTraceSegments", "xray:PutTelemetryRecords", "xray:GetSamplingRules", "xray:GetSamplingTargets",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_role" "events" {
  for_each           = local.event_services
  name               = "${var.name}-events-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.event_trust[each.key].json
}

resource "aws_iam_role_policy" "events" {
  for_each = local.event_policies
  name     = "events"
  role     = aws_iam_role.events[each.key].id
  policy   = each.value
}
