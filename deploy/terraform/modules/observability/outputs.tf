output "log_groups" {
  description = "trainer, dagster, sessions → name."
  value       = { for kind, group in aws_cloudwatch_log_group.this : kind => group.name }
}

output "topic_arn" {
  value = aws_sns_topic.alarms.arn
}

output "event_bus" {
  value = { name = aws_cloudwatch_event_bus.this.name, arn = aws_cloudwatch_event_bus.this.arn }
}

output "queue_url" {
  value = aws_sqs_queue.events.url
}
