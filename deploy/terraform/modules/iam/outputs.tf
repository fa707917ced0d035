output "role_arns" {
  description = "dagster, images and the chosen others → ARN."
  value       = { for name, role in aws_iam_role.this : name => role.arn }
}

output "policies" {
  description = "role → name → policy, as JSON."
  value       = local.policies
}
