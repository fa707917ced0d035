# Dagster on ECS: three services, and the definition of the tasks that its runs are. On EKS this is Kustomize's.

locals {
  on_ecs    = var.ecs == null ? {} : { ecs = var.ecs }
  port      = 4000
  workspace = "${try(var.ecs.dagster_home, "")}/workspace.yaml"
  location  = "code-location.${var.name}.internal"

  # memory is a limit of the task, cpu its share (1024 = one)
  processes = {
    webserver = {
      command = ["dagster-webserver", "-h", "0.0.0.0", "-p", "3000", "-w", local.workspace], cpu = 512, memory = 2048
    }
    daemon = {
      command = ["dagster-daemon", "run", "-w", local.workspace], cpu = 512, memory = 2048
    }
    code-location = {
      command = ["dagster", "api", "grpc", "-h", "0.0.0.0", "-p", tostring(local.port), "-m", "training_assets.definitions"], cpu = 1024, memory = 4096
    }
    run = { command = [], cpu = 1024, memory = 8192 } # EcsRunLauncher says what
  }
  services = { for name, process in local.processes : name => process if name != "run" && var.ecs != null }

  environment = var.ecs == null ? {} : {
    AWS_DEFAULT_REGION          = data.aws_region.current.name
    DAGSTER_HOME                = var.ecs.dagster_home
    DAGSTER_COMPUTE_LOGS_BUCKET = var.ecs.logs_bucket
    DAGSTER_CODE_LOCATION_HOST  = local.location
    DAGSTER_CURRENT_IMAGE       = var.ecs.image
    DAGSTER_RUN_TASK_DEFINITION = "${var.name}-run"
    DAGSTER_PG_HOST             = aws_db_instance.this.address
    DAGSTER_PG_PORT             = tostring(aws_db_instance.this.port)
    DAGSTER_PG_DB               = aws_db_instance.this.db_name
    TRAINING_ASSETS_PROFILE     = var.ecs.profile
    TRAINING_ASSETS_STORE       = "${var.ecs.mount_point}/store"
    TRAINING_ASSETS_INBOX       = var.ecs.inbox
  }
}

resource "aws_ecs_task_definition" "process" {
  #checkov:skip=CKV_AWS_336:Read-only but for the web server, whose sessions (ECS Exec) need a place for their agent.
  for_each                 = var.ecs == null ? {} : local.processes
  family                   = "${var.name}-${each.key}"
  network_mode             = "awsvpc"
  requires_compatibilities = ["EC2"]
  cpu                      = each.value.cpu
  memory                   = each.value.memory
  task_role_arn            = var.ecs.role_arns["dagster"]
  execution_role_arn       = var.ecs.role_arns["execution"]

  volume {
    name      = "store"
    host_path = var.ecs.mount_point
  }

  container_definitions = jsonencode([merge({
    name                   = each.key
    image                  = var.ecs.image
    command                = each.value.command
    essential              = true
    readonlyRootFilesystem = each.key != "webserver"
    stopTimeout            = 120
    dockerSecurityOptions  = ["no-new-privileges"]
    linuxParameters = {
      initProcessEnabled = true
      capabilities       = { drop = each.key == "webserver" ? [] : ["ALL"] }                             # sessions, again
      tmpfs              = [{ containerPath = "/tmp", size = 1024, mountOptions = ["nosuid", "nodev"] }] # MiB, of the memory
    }
    environment = [for name, value in merge(local.environment, var.ecs.environment) : { name = name, value = value }]
    secrets = concat(
      [for name, field in { DAGSTER_PG_USERNAME = "username", DAGSTER_PG_PASSWORD = "password" } :
      { name = name, valueFrom = "${local.secret_arn}:${field}::" }],
      [for name, arn in var.ecs.secrets : { name = name, valueFrom = arn }],
    )
    mountPoints = [
      { sourceVolume = "store", containerPath = var.ecs.mount_point, readOnly = false },
    ]
    portMappings = [for port in lookup({ webserver = [3000], code-location = [local.port] }, each.key, []) : { containerPort = port, protocol = "tcp" }]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = var.ecs.log_group
        awslogs-region        = data.aws_region.current.name
        awslogs-stream-prefix = each.key
      }
    }
    }, each.key != "code-location" ? {} : {
    healthCheck = {
      command     = ["CMD", "dagster", "api", "grpc-health-check", "-p", tostring(local.port)]
      interval    = 30
      timeout     = 10
      retries     = 3
      startPeriod = 60
    }
  })])
}

resource "aws_service_discovery_private_dns_namespace" "this" {
  for_each = local.on_ecs
  name     = "${var.name}.internal"
  vpc      = each.value.vpc_id
}

resource "aws_service_discovery_service" "code_location" {
  for_each = local.on_ecs
  name     = "code-location"
  dns_config {
    namespace_id = aws_service_discovery_private_dns_namespace.this["ecs"].id
    dns_records {
      type = "A"
      ttl  = 10
    }
  }
}

# One of each: two daemons would do everything twice, so the old one ends before the new one begins.
resource "aws_ecs_service" "process" {
  for_each                           = local.services
  name                               = each.key
  cluster                            = var.ecs.cluster_arn
  task_definition                    = aws_ecs_task_definition.process[each.key].arn
  desired_count                      = 1
  deployment_minimum_healthy_percent = each.key == "daemon" ? 0 : 100
  deployment_maximum_percent         = each.key == "daemon" ? 100 : 200
  enable_execute_command             = each.key == "webserver"
  propagate_tags                     = "SERVICE"

  capacity_provider_strategy {
    capacity_provider = var.ecs.capacity_provider
    weight            = 1
  }
  network_configuration {
    subnets          = [var.ecs.subnet_id]
    security_groups  = [var.security_group_ids["dagster"]]
    assign_public_ip = false
  }
  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
  dynamic "service_registries" {
    for_each = each.key == "code-location" ? [1] : []
    content {
      registry_arn = aws_service_discovery_service.code_location["ecs"].arn
    }
  }
}
