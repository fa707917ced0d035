# SageMaker needs little that stands still: where its logs go, and a group in its model registry for each project.

resource "aws_cloudwatch_log_group" "training" {
  name              = "/aws/sagemaker/TrainingJobs" # SageMaker's own, one for all jobs of the account and region
  retention_in_days = 365
  kms_key_id        = var.kms_key_arn
}

resource "aws_sagemaker_model_package_group" "project" {
  for_each                        = var.projects
  model_package_group_name        = "${var.name}-${each.key}"
  model_package_group_description = "Released models of ${each.key}"
}
