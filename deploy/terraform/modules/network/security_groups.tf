# Who may speak to whom. A rule names the other group, never an address, where there is a group to name.

locals {
  groups = {
    training = "Training nodes: everything among themselves (EFA), AWS and the file system outside"
    dagster  = "Dagster: web server, daemon, code location and runs"
    fsx      = "FSx for Lustre"
    database = "PostgreSQL of Dagster"
  }
  clients = ["training", "dagster"]
  lustre  = { mgs = [988, 988], peers = [1018, 1023] }
  # client, port range: Lustre speaks both ways
  mounts = {
    for pair in setproduct(local.clients, keys(local.lustre)) :
    "${pair[0]}-${pair[1]}" => { client = pair[0], ports = local.lustre[pair[1]] }
  }
}

resource "aws_security_group" "this" {
  #checkov:skip=CKV2_AWS_5:They are attached in other modules (data, dagster, ecs, eks), which this check does not follow.
  for_each    = local.groups
  name        = "${var.name}-${each.key}"
  description = each.value
  vpc_id      = aws_vpc.this.id
  tags        = { Name = "${var.name}-${each.key}" }
}

# EFA passes only where the group allows all traffic to and from itself, in both directions.
resource "aws_vpc_security_group_ingress_rule" "training_self" {
  security_group_id            = aws_security_group.this["training"].id
  description                  = "EFA, NCCL and the rendezvous"
  referenced_security_group_id = aws_security_group.this["training"].id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_egress_rule" "training_self" {
  security_group_id            = aws_security_group.this["training"].id
  description                  = "EFA, NCCL and the rendezvous"
  referenced_security_group_id = aws_security_group.this["training"].id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  for_each                     = toset(local.clients)
  security_group_id            = aws_security_group.this[each.key].id
  description                  = "AWS through interface endpoints"
  referenced_security_group_id = aws_security_group.endpoints.id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_egress_rule" "s3" {
  for_each          = toset(local.clients)
  security_group_id = aws_security_group.this[each.key].id
  description       = "S3 through the gateway endpoint"
  prefix_list_id    = aws_vpc_endpoint.s3.prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "mount" {
  for_each                     = local.mounts
  security_group_id            = aws_security_group.this[each.value.client].id
  description                  = "Lustre"
  referenced_security_group_id = aws_security_group.this["fsx"].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.ports[0]
  to_port                      = each.value.ports[1]
}

resource "aws_vpc_security_group_ingress_rule" "served" {
  for_each                     = local.mounts
  security_group_id            = aws_security_group.this["fsx"].id
  description                  = "Lustre of ${each.value.client}"
  referenced_security_group_id = aws_security_group.this[each.value.client].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.ports[0]
  to_port                      = each.value.ports[1]
}

resource "aws_vpc_security_group_ingress_rule" "called_back" {
  for_each                     = local.mounts
  security_group_id            = aws_security_group.this[each.value.client].id
  description                  = "Lustre calls its clients back"
  referenced_security_group_id = aws_security_group.this["fsx"].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.ports[0]
  to_port                      = each.value.ports[1]
}

resource "aws_vpc_security_group_egress_rule" "call_back" {
  for_each                     = local.mounts
  security_group_id            = aws_security_group.this["fsx"].id
  description                  = "Lustre calls back ${each.value.client}"
  referenced_security_group_id = aws_security_group.this[each.value.client].id
  ip_protocol                  = "tcp"
  from_port                    = each.value.ports[0]
  to_port                      = each.value.ports[1]
}

resource "aws_vpc_security_group_ingress_rule" "fsx_self" {
  for_each                     = local.lustre
  security_group_id            = aws_security_group.this["fsx"].id
  description                  = "Lustre servers among themselves"
  referenced_security_group_id = aws_security_group.this["fsx"].id
  ip_protocol                  = "tcp"
  from_port                    = each.value[0]
  to_port                      = each.value[1]
}

resource "aws_vpc_security_group_egress_rule" "fsx_self" {
  for_each                     = local.lustre
  security_group_id            = aws_security_group.this["fsx"].id
  description                  = "Lustre servers among themselves"
  referenced_security_group_id = aws_security_group.this["fsx"].id
  ip_protocol                  = "tcp"
  from_port                    = each.value[0]
  to_port                      = each.value[1]
}

# The code location's gRPC, and nothing else of Dagster: its page has no login and is reached through a session.
resource "aws_vpc_security_group_ingress_rule" "code_location" {
  security_group_id            = aws_security_group.this["dagster"].id
  description                  = "gRPC of the code location"
  referenced_security_group_id = aws_security_group.this["dagster"].id
  ip_protocol                  = "tcp"
  from_port                    = 4000
  to_port                      = 4000
}

resource "aws_vpc_security_group_egress_rule" "code_location" {
  security_group_id            = aws_security_group.this["dagster"].id
  description                  = "gRPC of the code location"
  referenced_security_group_id = aws_security_group.this["dagster"].id
  ip_protocol                  = "tcp"
  from_port                    = 4000
  to_port                      = 4000
}

resource "aws_vpc_security_group_egress_rule" "database" {
  security_group_id            = aws_security_group.this["dagster"].id
  description                  = "PostgreSQL"
  referenced_security_group_id = aws_security_group.this["database"].id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  security_group_id            = aws_security_group.this["database"].id
  description                  = "PostgreSQL for Dagster"
  referenced_security_group_id = aws_security_group.this["dagster"].id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}
