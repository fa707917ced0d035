# Metrics of every run, in the namespace TrainingAssets, with the dimension {project} (and, for dashboards, {project,
# recipe, run}). A project's alarm looks at the worst of its runs: an idle one must not hide behind a busy one.

locals {
  alarms = merge([for project, limits in var.projects : {
    "${project}-gpu-idle" = {
      project   = project, metric = "gpu_utilisation", statistic = "Minimum", operator = "LessThanThreshold"
      threshold = 10, minutes = 10
      says      = "GPU utilisation of a run below 10 % for 10 minutes: look for what holds it up (docs/telemetry.md)."
    }
    "${project}-spend" = {
      project   = project, metric = "cost_usd", statistic = "Maximum", operator = "GreaterThanThreshold"
      threshold = limits.run_cap_usd, minutes = 1
      says      = "A run has cost more than its cap. The launcher stops it by itself; see that it has."
    }
    "${project}-sweep-budget" = {
      project   = project, metric = "sweep_budget_used", statistic = "Maximum", operator = "GreaterThanThreshold"
      threshold = 0.9, minutes = 1
      says      = "A sweep has used nine tenths of a cap of its budget; at the cap its trials are stopped."
    }
  }]...)
}

# One-minute points. Without points nothing runs, and nothing is wrong.
resource "aws_cloudwatch_metric_alarm" "project" {
  for_each            = local.alarms
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.says
  namespace           = "TrainingAssets"
  metric_name         = each.value.metric
  dimensions          = { project = each.value.project }
  statistic           = each.value.statistic
  comparison_operator = each.value.operator
  threshold           = each.value.threshold
  period              = 60
  evaluation_periods  = each.value.minutes
  datapoints_to_alarm = each.value.minutes
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

# `progress_steps` is the step that a run has reached. The run that is furthest behind and the one that is furthest ahead
# must move; one between two others is the launcher's to watch, as every run is.
resource "aws_cloudwatch_metric_alarm" "no_progress" {
  for_each            = var.projects
  alarm_name          = "${var.name}-${each.key}-no-progress"
  alarm_description   = "A run has made no step for ${each.value.stalled_minutes} minutes."
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  evaluation_periods  = each.value.stalled_minutes
  datapoints_to_alarm = each.value.stalled_minutes
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  metric_query {
    id          = "stalled"
    expression  = "IF(DIFF(behind) == 0 OR DIFF(ahead) == 0, 1, 0)"
    label       = "no step in this minute"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { behind = "Minimum", ahead = "Maximum" }
    content {
      id = metric_query.key
      metric {
        namespace   = "TrainingAssets"
        metric_name = "progress_steps"
        dimensions  = { project = each.key }
        period      = 60
        stat        = metric_query.value
      }
    }
  }
}

# What the account is billed, whoever spends it: hours late, but nothing escapes it.
resource "aws_budgets_budget" "month" {
  name         = var.name
  budget_type  = "COST"
  limit_amount = tostring(var.monthly_budget_usd)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  dynamic "notification" {
    for_each = { ACTUAL = 80, FORECASTED = 100 }
    content {
      notification_type         = notification.key
      threshold                 = notification.value
      threshold_type            = "PERCENTAGE"
      comparison_operator       = "GREATER_THAN"
      subscriber_sns_topic_arns = [aws_sns_topic.alarms.arn]
    }
  }
}
