output "cluster_name" {
  value = aws_eks_cluster.this.name
}

output "cluster_security_group_id" {
  value = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "autoscaler_role_arn" {
  description = "Role of the service account kube-system/cluster-autoscaler."
  value       = aws_iam_role.autoscaler.arn
}

output "oidc_provider" {
  description = "ARN of the provider and its issuer without scheme, as trust policies name it."
  value = {
    arn    = aws_iam_openid_connect_provider.this.arn
    issuer = local.issuer
  }
}
