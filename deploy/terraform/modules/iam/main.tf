# Who may do what: one file per role, nothing here creates anything else. tests/deploy/test_policies.py holds what each
# role may and may not do.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.name
  arn       = "arn:${local.partition}"
  here      = "${local.region}:${local.account}"

  # Which service, or which Kubernetes service account, may become which role.
  services = {
    dagster   = "ecs-tasks.amazonaws.com"
    trainer   = "ecs-tasks.amazonaws.com"
    execution = "ecs-tasks.amazonaws.com"
    sagemaker = "sagemaker.amazonaws.com"
  }
  on_kubernetes = var.oidc_provider == null ? {} : { dagster = "dagster", trainer = "trainer", secrets = "secrets" }
  on_aws = {
    for role, service in local.services : role => service
    if contains(setunion(var.roles, ["dagster"]), role) && !contains(keys(local.on_kubernetes), role)
  }

  policies = merge(
    { images = { images = data.aws_iam_policy_document.images.json } },
    { dagster = merge(
      { common = data.aws_iam_policy_document.dagster.json },
      contains(var.launchers, "ecs") ? { ecs = data.aws_iam_policy_document.launch_ecs.json } : {},
      contains(var.launchers, "sagemaker") ? { sagemaker = data.aws_iam_policy_document.launch_sagemaker.json } : {},
    ) },
    contains(var.roles, "trainer") ? { trainer = { trainer = data.aws_iam_policy_document.trainer.json } } : {},
    contains(var.roles, "execution") ? { execution = { execution = data.aws_iam_policy_document.execution.json } } : {},
    contains(var.roles, "sagemaker") ? { sagemaker = { sagemaker = data.aws_iam_policy_document.sagemaker.json } } : {},
    var.oidc_provider == null ? {} : { secrets = { secrets = data.aws_iam_policy_document.secrets.json } },
  )
  attachments = merge([
    for role, documents in local.policies : { for name, document in documents : "${role}/${name}" => { role = role, name = name, document = document } }
  ]...)
}

data "aws_iam_policy_document" "service_trust" {
  for_each = local.on_aws
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = [each.value]
    }
    # A service that is talked into using this role for another account's task is refused.
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
  }
}

data "aws_iam_policy_document" "kubernetes_trust" {
  for_each = local.on_kubernetes
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]
    principals {
      type        = "Federated"
      identifiers = [var.oidc_provider.arn]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.oidc_provider.issuer}:sub"
      values   = ["system:serviceaccount:${var.oidc_provider.namespace}:${each.value}"]
    }
    condition {
      test     = "StringEquals"
      variable = "${var.oidc_provider.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "people_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "AWS"
      identifiers = length(var.image_pushers) > 0 ? var.image_pushers : ["${local.arn}:iam::${local.account}:root"]
    }
  }
}

resource "aws_iam_role" "this" {
  for_each             = local.policies
  name                 = "${var.name}-${each.key}"
  max_session_duration = 3600
  assume_role_policy = (
    each.key == "images" ? data.aws_iam_policy_document.people_trust.json :
    contains(keys(local.on_kubernetes), each.key) ? data.aws_iam_policy_document.kubernetes_trust[each.key].json :
    data.aws_iam_policy_document.service_trust[each.key].json
  )
}

resource "aws_iam_role_policy" "this" {
  for_each = local.attachments
  name     = each.value.name
  role     = aws_iam_role.this[each.value.role].id
  policy   = each.value.document
}
