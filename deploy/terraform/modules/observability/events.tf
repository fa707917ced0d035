# The bus for events (docs/events.md), a queue for whoever polls (deploy/examples/airflow) and a state machine
# (deploy/examples/step_functions).

resource "aws_cloudwatch_event_bus" "this" {
  name = var.name
}

resource "aws_cloudwatch_event_archive" "this" {
  name             = var.name
  event_source_arn = aws_cloudwatch_event_bus.this.arn
  retention_days   = 90
}

resource "aws_sqs_queue" "events" {
  name                       = "${var.name}-events"
  kms_master_key_id          = var.kms_key_arn
  message_retention_seconds  = 14 * 24 * 3600
  visibility_timeout_seconds = 300
}

resource "aws_sqs_queue_redrive_policy" "events" {
  queue_url = aws_sqs_queue.events.id
  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead.arn
    maxReceiveCount     = 5
  })
}

# What a consumer failed on five times, and what a rule could not deliver.
resource "aws_sqs_queue" "dead" {
  name                      = "${var.name}-events-dead"
  kms_master_key_id         = var.kms_key_arn
  message_retention_seconds = 14 * 24 * 3600
}

locals {
  queues = { events = aws_sqs_queue.events, dead = aws_sqs_queue.dead }
  rules = {
    queue = {
      says    = "Every event, for whoever polls the queue"
      pattern = { source = ["training-assets"] }
    }
    machine = {
      says    = "What the state machine acts on"
      pattern = { source = ["training-assets"], "detail-type" = ["model.registered", "gate.failed", "sweep.requested", "data.requested"] }
    }
  }
}

data "aws_iam_policy_document" "queue" {
  for_each = local.queues
  statement {
    actions   = ["sqs:SendMessage"]
    resources = [each.value.arn]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [for rule in aws_cloudwatch_event_rule.this : rule.arn]
    }
  }
}

resource "aws_sqs_queue_policy" "this" {
  for_each  = local.queues
  queue_url = each.value.id
  policy    = data.aws_iam_policy_document.queue[each.key].json
}

resource "aws_cloudwatch_event_rule" "this" {
  for_each       = local.rules
  name           = "${var.name}-${each.key}"
  description    = each.value.says
  event_bus_name = aws_cloudwatch_event_bus.this.name
  event_pattern  = jsonencode(each.value.pattern)
}

resource "aws_cloudwatch_event_target" "queue" {
  rule           = aws_cloudwatch_event_rule.this["queue"].name
  event_bus_name = aws_cloudwatch_event_bus.this.name
  target_id      = "queue"
  arn            = aws_sqs_queue.events.arn
  dead_letter_config {
    arn = aws_sqs_queue.dead.arn
  }
}

resource "aws_cloudwatch_event_target" "machine" {
  rule           = aws_cloudwatch_event_rule.this["machine"].name
  event_bus_name = aws_cloudwatch_event_bus.this.name
  target_id      = "machine"
  arn            = aws_sfn_state_machine.events.arn
  role_arn       = aws_iam_role.events["rule"].arn
  dead_letter_config {
    arn = aws_sqs_queue.dead.arn
  }
}
