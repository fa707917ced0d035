# A cluster of instances: one pool for Dagster, and pools of training nodes that are empty while nothing trains.
# Not Fargate: it can mount no Lustre, and Dagster and the training nodes share one file system.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  arn  = "arn:${data.aws_partition.current.partition}"
  here = "${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}"
  pools = merge(var.training_pools, {
    services = {
      instance_type  = var.services.instance_type
      max_nodes      = var.services.max_nodes
      spot           = false
      gpu            = false
      efa_interfaces = 0
      disk_gib       = 100
    }
  })
  images = {
    true  = "resolve:ssm:/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id"
    false = "resolve:ssm:/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
  }
}

resource "aws_ecs_cluster" "this" {
  name = var.name
  setting {
    name  = "containerInsights"
    value = "enabled"
  }
  configuration {
    execute_command_configuration {
      kms_key_id = var.kms_key_arn
      logging    = "OVERRIDE"
      log_configuration {
        cloud_watch_encryption_enabled = true
        cloud_watch_log_group_name     = var.session_log_group
      }
    }
  }
}

# A task of Dagster has a network interface of its own; without trunks an instance has room for three.
resource "aws_ecs_account_setting_default" "trunking" {
  name  = "awsvpcTrunking"
  value = "enabled"
}

# Training nodes stand close together. A cluster placement group lies in one zone.
resource "aws_placement_group" "training" {
  for_each = { for name, pool in var.training_pools : name => pool if pool.efa_interfaces > 0 }
  name     = "${var.name}-${each.key}"
  strategy = "cluster"
}

resource "aws_launch_template" "pool" {
  for_each               = local.pools
  name                   = "${var.name}-${each.key}"
  update_default_version = true
  image_id               = local.images[each.value.gpu]
  instance_type          = each.value.instance_type
  ebs_optimized          = true
  user_data = base64encode(templatefile("${path.module}/user_data.sh", {
    cluster     = var.name
    gpu         = each.value.gpu
    file_system = var.file_system
    mount_point = var.mount_point
  }))

  iam_instance_profile {
    arn = aws_iam_instance_profile.node.arn
  }

  # IMDSv2; one hop: a container in a network of its own does not get at the instance's role.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  dynamic "instance_market_options" {
    for_each = each.value.spot ? [1] : []
    content {
      market_type = "spot"
    }
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
      security_groups             = [var.security_group_ids[each.key == "services" ? "dagster" : "training"]]
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

resource "aws_autoscaling_group" "pool" {
  for_each              = local.pools
  name                  = "${var.name}-${each.key}"
  min_size              = each.key == "services" ? 1 : 0
  max_size              = each.value.max_nodes
  vpc_zone_identifier   = [var.training_subnet_id]
  placement_group       = try(aws_placement_group.training[each.key].name, null)
  protect_from_scale_in = true # a node with a task of a gang is not taken away
  health_check_type     = "EC2"

  launch_template {
    id      = aws_launch_template.pool[each.key].id
    version = aws_launch_template.pool[each.key].latest_version
  }

  tag {
    key                 = "AmazonECSManaged"
    value               = "true"
    propagate_at_launch = true
  }

  # ECS counts the nodes from here on.
  lifecycle {
    ignore_changes = [desired_capacity]
  }
}

resource "aws_ecs_capacity_provider" "pool" {
  for_each = local.pools
  name     = "${var.name}-${each.key}"
  auto_scaling_group_provider {
    auto_scaling_group_arn         = aws_autoscaling_group.pool[each.key].arn
    managed_termination_protection = "ENABLED"
    managed_draining               = "ENABLED"
    managed_scaling {
      status                    = "ENABLED"
      target_capacity           = 100
      minimum_scaling_step_size = 1
      maximum_scaling_step_size = each.value.max_nodes
      instance_warmup_period    = 300
    }
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = [for provider in aws_ecs_capacity_provider.pool : provider.name]
  default_capacity_provider_strategy {
    capacity_provider = aws_ecs_capacity_provider.pool["services"].name
    weight            = 1
  }
}
