"""The roots are formatted and valid, and what they plan is private, encrypted and shaped for training in gangs."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.conftest import DEPLOY, Terraform

pytestmark = pytest.mark.slow

ROOTS = ("ecs", "eks", "sagemaker")
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/training-assets/dagster@sha256:" + "0" * 64
EFA = '{"p4d":{"instance_type":"p4d.24xlarge","max_nodes":2,"spot":true,"efa_interfaces":4}}'
COMMON = {
    "region": "us-east-1",
    "zones": '["us-east-1a","us-east-1b"]',
    "projects": '{"scenes":{"run_cap_usd":200,"stalled_minutes":20}}',
    "monthly_budget_usd": "3000",
}
OWN = {
    "ecs": {"dagster_image": IMAGE, "training_pools": EFA},
    "sagemaker": {"dagster_image": IMAGE},
    "eks": {"kubernetes_version": "1.35", "admin_arns": '["arn:aws:iam::123456789012:role/a"]', "training_groups": EFA},
}
Resources = dict[str, dict[str, Any]]


def test_the_code_is_formatted(terraform: Terraform) -> None:
    assert terraform.must(DEPLOY / "terraform", "fmt", "-check", "-recursive") == ""


@pytest.fixture(scope="module", params=ROOTS)
def planned(request: pytest.FixtureRequest, terraform: Terraform, ministack: str) -> Iterator[tuple[str, Resources]]:
    """A root and the resources that it would make, by address. A plan validates; of AWS it asks only who we are."""
    root = terraform.root(request.param)
    variables = [f"-var={name}={value}" for name, value in {**COMMON, **OWN[request.param]}.items()]
    terraform.must(root, "plan", "-input=false", "-no-color", "-out=plan", *variables, AWS_ENDPOINT_URL=ministack)
    plan = json.loads(terraform.must(root, "show", "-json", "plan"))
    return request.param, dict(resources(plan["planned_values"]["root_module"]))


def resources(module: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for resource in module.get("resources", []):
        if resource["mode"] == "managed":
            yield resource["address"], {"type": resource["type"], **resource.get("values", {})}
    for child in module.get("child_modules", []):
        yield from resources(child)


def of(planned: Resources, kind: str) -> Resources:
    return {address: values for address, values in planned.items() if values["type"] == kind}


def test_what_a_root_plans_is_private_encrypted_and_shaped_for_gangs(planned: tuple[str, Resources]) -> None:
    """One test for all of it: a plan costs seconds."""
    root, found = planned
    nothing_is_public(found)
    everything_is_encrypted(found)
    the_file_system_is_linked_with_buckets(found)
    images_stay_what_they_are(found)
    efa_passes_in_and_out(found)
    nodes_are_for_gangs(root, found)
    alarms_are_the_ones_that_were_asked_for(found)
    if root == "eks":
        the_cluster_is_private(found)
    else:
        dagster_runs_once_and_knows_no_secret(found)


def nothing_is_public(found: Resources) -> None:
    assert not of(found, "aws_internet_gateway")
    assert not of(found, "aws_nat_gateway")
    assert not [s for s in of(found, "aws_subnet").values() if s["map_public_ip_on_launch"]]
    for template in of(found, "aws_launch_template").values():
        assert {card["associate_public_ip_address"] for card in template["network_interfaces"]} == {"false"}
    assert not [d for d in of(found, "aws_db_instance").values() if d["publicly_accessible"]]
    for block in of(found, "aws_s3_bucket_public_access_block").values():
        assert block["block_public_acls"]
        assert block["block_public_policy"]
        assert block["restrict_public_buckets"]
    for rule in of(found, "aws_vpc_security_group_ingress_rule").values():
        assert rule["cidr_ipv4"] in (None, "10.42.0.0/16")
    names = {
        endpoint["service_name"].rpartition("us-east-1.")[2] for endpoint in of(found, "aws_vpc_endpoint").values()
    }
    assert {"s3", "ecr.api", "ecr.dkr", "logs", "kms", "sts", "secretsmanager", "events", "monitoring"} <= names


def everything_is_encrypted(found: Resources) -> None:
    assert [key["enable_key_rotation"] for key in of(found, "aws_kms_key").values()] == [True]
    assert all(
        d["storage_encrypted"] and d["manage_master_user_password"] for d in of(found, "aws_db_instance").values()
    )
    for template in of(found, "aws_launch_template").values():
        assert {disk["ebs"][0]["encrypted"] for disk in template["block_device_mappings"]} == {"true"}
    algorithms = {
        address.rpartition('["')[2].rstrip('"]'): entry["rule"][0]["apply_server_side_encryption_by_default"][0][
            "sse_algorithm"
        ]
        for address, entry in of(found, "aws_s3_bucket_server_side_encryption_configuration").items()
    }
    assert algorithms == {"data": "aws:kms", "archive": "aws:kms", "logs": "AES256"}


def the_file_system_is_linked_with_buckets(found: Resources) -> None:
    (files,) = of(found, "aws_fsx_lustre_file_system").values()
    assert (files["deployment_type"], files["data_compression_type"]) == ("PERSISTENT_2", "LZ4")
    links = {link["file_system_path"] for link in of(found, "aws_fsx_data_repository_association").values()}
    assert links == {"/inbox", "/store/runs"}


def images_stay_what_they_are(found: Resources) -> None:
    repositories = of(found, "aws_ecr_repository").values()
    assert {r["name"] for r in repositories} == {"training-assets/trainer", "training-assets/dagster"}
    assert {r["image_tag_mutability"] for r in repositories} == {"IMMUTABLE"}
    assert all(r["image_scanning_configuration"][0]["scan_on_push"] for r in repositories)


def efa_passes_in_and_out(found: Resources) -> None:
    for way in ("ingress", "egress"):
        rule = found[f"module.network.aws_vpc_security_group_{way}_rule.training_self"]
        assert (rule["ip_protocol"], rule["cidr_ipv4"]) == ("-1", None)


def nodes_are_for_gangs(root: str, found: Resources) -> None:
    templates = of(found, "aws_launch_template")
    for template in templates.values():
        (metadata,) = template["metadata_options"]
        assert (metadata["http_tokens"], metadata["http_put_response_hop_limit"]) == ("required", 1)
    if root == "sagemaker":
        return
    (placement,) = of(found, "aws_placement_group").values()
    assert placement["strategy"] == "cluster"
    (efa,) = [t for t in templates.values() if t["instance_type"] == "p4d.24xlarge"]
    cards = [(c["network_card_index"], c["device_index"], c["interface_type"]) for c in efa["network_interfaces"]]
    assert cards == [(0, 0, "efa"), (1, 1, "efa"), (2, 1, "efa"), (3, 1, "efa")]
    if root == "ecs":
        assert efa["instance_market_options"][0]["market_type"] == "spot"
        assert all(group["protect_from_scale_in"] for group in of(found, "aws_autoscaling_group").values())
    else:
        (group,) = [g for g in of(found, "aws_eks_node_group").values() if g["node_group_name"] == "p4d"]
        assert (group["capacity_type"], group["scaling_config"][0]["min_size"]) == ("SPOT", 0)
        assert group["taint"][0]["key"] == "nvidia.com/gpu"
        assert group["labels"] == {"training-assets/pool": "p4d"}


def alarms_are_the_ones_that_were_asked_for(found: Resources) -> None:
    alarms = {a["alarm_name"]: a for a in of(found, "aws_cloudwatch_metric_alarm").values()}
    asked = {
        "training-assets-scenes-gpu-idle": ("gpu_utilisation", 10.0, 10),
        "training-assets-scenes-spend": ("cost_usd", 200.0, 1),
        "training-assets-scenes-sweep-budget": ("sweep_budget_used", 0.9, 1),
    }
    stalled = alarms.pop("training-assets-scenes-no-progress")
    assert (stalled["threshold"], stalled["evaluation_periods"]) == (1, 20)
    queries = {query["id"]: query["metric"] for query in stalled["metric_query"]}
    assert {name: metric[0]["stat"] for name, metric in queries.items() if metric} == {
        "behind": "Minimum",
        "ahead": "Maximum",
    }
    assert {name: (a["metric_name"], a["threshold"], a["evaluation_periods"]) for name, a in alarms.items()} == asked
    assert {(a["namespace"], a["dimensions"]["project"], a["period"]) for a in alarms.values()} == {
        ("TrainingAssets", "scenes", 60)
    }


def the_cluster_is_private(found: Resources) -> None:
    (cluster,) = of(found, "aws_eks_cluster").values()
    (network,) = cluster["vpc_config"]
    assert (network["endpoint_private_access"], network["endpoint_public_access"]) == (True, False)
    assert cluster["encryption_config"][0]["resources"] == ["secrets"]
    assert set(cluster["enabled_cluster_log_types"]) >= {"api", "audit", "authenticator"}


def dagster_runs_once_and_knows_no_secret(found: Resources) -> None:
    services = {service["name"]: service for service in of(found, "aws_ecs_service").values()}
    assert set(services) == {"webserver", "daemon", "code-location"}
    daemon = services["daemon"]
    assert (daemon["desired_count"], daemon["deployment_maximum_percent"]) == (1, 100)
    assert not [s for s in services.values() if s["network_configuration"][0]["assign_public_ip"]]
    definitions = of(found, "aws_ecs_task_definition")
    assert {d["family"].removeprefix("training-assets-") for d in definitions.values()} == {*services, "run"}


def test_wrong_variables_are_refused_with_what_to_do(terraform: Terraform, ministack: str) -> None:
    root = terraform.root("ecs")
    wrong = {"dagster_image": "dagster:latest", "zones": '["us-east-1a"]'}
    chosen = [f"-var={name}={value}" for name, value in {**COMMON, **OWN["ecs"], **wrong}.items()]
    done = terraform(root, "plan", "-input=false", "-no-color", *chosen, AWS_ENDPOINT_URL=ministack)
    assert done.returncode != 0
    report = " ".join(done.stderr.replace("│", "").split())
    assert "named by its digest" in report
    assert "two zones" in report


def test_a_node_joins_the_cluster_only_after_its_file_system_is_there(terraform: Terraform) -> None:
    script = (DEPLOY / "terraform" / "modules" / "ecs" / "user_data.sh").read_text()
    assert script.index("mount ${mount_point}") < script.index("ECS_CLUSTER=")
    assert "set -euo pipefail" in script
    assert "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true" in script
    place = terraform.deploy / "console"
    place.mkdir()
    files = '{dns_name = "fs-1.fsx", mount_name = "abc"}'
    (place / "main.tf").write_text(
        'output "script" {\n  value = templatefile("../terraform/modules/ecs/user_data.sh", '
        f'{{cluster = "c", gpu = true, mount_point = "/fsx", file_system = {files}}})\n}}\n'
    )
    terraform.init(place)
    terraform.must(place, "apply", "-auto-approve", "-no-color")
    rendered = terraform.must(place, "output", "-raw", "script")
    assert "fs-1.fsx@tcp:/abc /fsx lustre" in rendered
    assert subprocess.run(["bash", "-n"], input=rendered, text=True, capture_output=True).stderr == ""
