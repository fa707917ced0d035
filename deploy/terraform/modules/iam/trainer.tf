# The training code: reads data, copies its checkpoints out. It starts nothing and knows no secret store.

data "aws_iam_policy_document" "trainer" {
  source_policy_documents = [data.aws_iam_policy_document.training_data.json]
}

data "aws_iam_policy_document" "training_data" {
  statement {
    sid       = "Buckets"
    actions   = ["s3:ListBucket", "s3:GetBucketLocation"]
    resources = [var.bucket_arns.data, var.bucket_arns.archive]
  }
  statement {
    sid       = "Read"
    actions   = ["s3:GetObject"]
    resources = ["${var.bucket_arns.data}/*", "${var.bucket_arns.archive}/models/*"]
  }
  # `train --copy-to`: the newest checkpoints, older ones go.
  statement {
    sid       = "Checkpoints"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = ["${var.bucket_arns.archive}/checkpoints/*"]
  }
  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]
  }
}
