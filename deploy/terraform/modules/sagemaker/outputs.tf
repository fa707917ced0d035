output "log_group" {
  value = aws_cloudwatch_log_group.training.name
}

output "model_package_groups" {
  description = "project → group."
  value       = { for project, group in aws_sagemaker_model_package_group.project : project => group.model_package_group_name }
}
