locals {
  groups = merge(var.training_groups, {
    system = {
      instance_type  = var.system.instance_type
      max_nodes      = var.system.max_nodes
      spot           = false
      efa_interfaces = 0
      disk_gib       = 100
    }
  })
  pool_label = "training-assets/pool"
}

# Training nodes stand close together. A cluster placement group lies in one zone.
resource "aws_placement_group" "training" {
  for_each = { for name, group in var.training_groups : name => group if group.efa_interfaces > 0 }
  name     = "${var.name}-eks-${each.key}"
  strategy = "cluster"
}

resource "aws_launch_template" "node" {
  for_each               = local.groups
  name                   = "${var.name}-eks-${each.key}"
  update_default_version = true
  instance_type          = each.value.instance_type

  # IMDSv2; one hop: pods do not get at the node's role. A spot notice reaches them as an eviction with SIGTERM.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  # One EFA per network card; only the first of them has an address for everything else.
  dynamic "network_interfaces" {
    for_each = range(max(1, each.value.efa_interfaces))
    content {
      device_index                = network_interfaces.value == 0 ? 0 : 1
      network_card_index          = network_interfaces.value
      interface_type              = each.value.efa_interfaces > 0 ? "efa" : null
      associate_public_ip_address = false
      delete_on_termination       = true
      security_groups = [
        aws_eks_cluster.this.vpc_config[0].cluster_security_group_id,
        var.security_group_ids[each.key == "system" ? "dagster" : "training"],
      ]
    }
  }

  dynamic "placement" {
    for_each = contains(keys(aws_placement_group.training), each.key) ? [1] : []
    content {
      group_name = aws_placement_group.training[each.key].name
    }
  }

  # AWS's own key: with ours, the service-linked role of Auto Scaling would have to exist before the key.
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size           = each.value.disk_gib
      volume_type           = "gp3"
      encrypted             = true
      delete_on_termination = true
    }
  }

  monitoring {
    enabled = true
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = "${var.name}-${each.key}" }
  }
}

resource "aws_eks_node_group" "this" {
  for_each        = local.groups
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = each.key
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = each.key == "system" ? var.subnet_ids : [var.training_subnet_id]
  ami_type        = each.key == "system" ? "AL2023_x86_64_STANDARD" : "AL2023_x86_64_NVIDIA"
  capacity_type   = each.value.spot ? "SPOT" : "ON_DEMAND"
  labels          = { (local.pool_label) = each.key }

  launch_template {
    id      = aws_launch_template.node[each.key].id
    version = aws_launch_template.node[each.key].latest_version
  }

  scaling_config {
    min_size     = each.key == "system" ? 2 : 0
    desired_size = each.key == "system" ? 2 : 0
    max_size     = each.value.max_nodes
  }

  dynamic "taint" {
    for_each = each.key == "system" ? [] : [1]
    content {
      key    = "nvidia.com/gpu"
      value  = "present"
      effect = "NO_SCHEDULE"
    }
  }

  # The autoscaler counts the nodes from here on.
  lifecycle {
    ignore_changes = [scaling_config[0].desired_size]
  }

  depends_on = [aws_iam_role_policy_attachment.node, aws_eks_addon.network]
}
