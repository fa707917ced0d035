"""What is missing in an account is found before anything costs money: asked of moto's IAM, ECR, EC2 and FSx."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training_assets.launchers import sagemaker_world
from tests.training_assets.launchers.sagemaker_world import World
from training_assets.launchers.sagemaker.check import problems_with
from training_assets.launchers.sagemaker.launcher import SageMakerLauncher

MANIFEST = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}


@pytest.fixture
def account(tmp_path: Path) -> Iterator[World]:
    with sagemaker_world.world(tmp_path) as made:
        yield made


def backend_of(world: World) -> dict[str, Any]:
    """Settings whose parts all exist."""
    client = world.cloud.client
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"},
                            "Action": "sts:AssumeRole"}]}  # fmt: skip
    role = client("iam").create_role(RoleName=f"r-{world.place.name}", AssumeRolePolicyDocument=json.dumps(trust))
    name = f"trainer-{world.place.name}"
    ecr, ec2 = client("ecr"), client("ec2")
    ecr.create_repository(repositoryName=name)
    image = ecr.put_image(repositoryName=name, imageManifest=json.dumps(MANIFEST), imageTag="x")["image"]
    network = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=network, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="nodes", Description="nodes", VpcId=network)["GroupId"]
    itself = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[itself])
    lustre = client("fsx").create_file_system(FileSystemType="LUSTRE", StorageCapacity=1200, SubnetIds=[subnet])
    system = lustre["FileSystem"]
    mount_name = system.get("LustreConfiguration", {}).get("MountName", "abcdefgh")
    return {
        "role": role["Role"]["Arn"],
        "image": f"123456789012.dkr.ecr.us-east-1.amazonaws.com/{name}@{image['imageId']['imageDigest']}",
        "subnets": [subnet],
        "security_groups": [group],
        "file_system": {"id": system["FileSystemId"], "directory": f"/{mount_name}/store"},
    }


def found(world: World, launcher: SageMakerLauncher) -> str:
    return "\n".join(map(str, launcher.check()))


@pytest.mark.slow
def test_an_account_that_has_everything_has_no_problems(account: World) -> None:
    account.cloud.quotas = {"ml.m5.large for training job usage": 4.0}
    assert found(account, account.launcher(**backend_of(account))) == ""


@pytest.mark.slow
def test_everything_that_is_missing_is_named_at_once(account: World) -> None:
    account.cloud.quotas = {"ml.m5.large for training job usage": 0.0, "ml.m5.large for spot training job usage": 9.0}
    text = found(account, account.launcher())
    for missing in ("a role that exists", "make image pushes it", "'backend.subnets'", "'backend.security_groups'",
                    "'backend.file_system.id'", "'ml.m5.large for training job usage' is 0"):  # fmt: skip
        assert missing in text
    assert "quota" not in found(account, account.launcher(spot=True))


def test_nodes_that_cannot_reach_each_other_are_a_problem(account: World) -> None:
    backend = backend_of(account)
    account.cloud.client("ec2").revoke_security_group_ingress(
        GroupId=backend["security_groups"][0],
        IpPermissions=[{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": backend["security_groups"][0]}]}],
    )
    assert "nodes that reach each other" in found(account, account.launcher(**backend))


@pytest.mark.slow
def test_a_service_that_fails_does_not_hide_what_the_others_say(account: World) -> None:
    account.cloud.faults = {"GetRole": ["throttle"] * 100}

    class Hasty(SageMakerLauncher):
        tries = 2

    text = found(account, Hasty.of(account.profile(**{**backend_of(account), "image": sagemaker_world.IMAGE})))
    assert "Rate exceeded" in text
    assert "make image pushes it" in text


@pytest.mark.slow
def test_throttling_and_errors_of_every_service_are_mended(account: World) -> None:
    backend = backend_of(account)
    asked = ("GetRole", "DescribeImages", "DescribeSubnets", "DescribeSecurityGroups", "DescribeFileSystems",
             "ListServiceQuotas")  # fmt: skip
    account.cloud.faults = {action: ["throttle", "error"] for action in asked}
    assert found(account, account.launcher(**backend)) == ""
    assert not any(account.cloud.faults.values())


def test_a_store_that_is_elsewhere_on_lustre_than_jobs_mount_is_a_problem(account: World, tmp_path: Path) -> None:
    launcher = account.launcher(**backend_of(account))
    mounts = tmp_path / "mounts"
    here = account.store.parent
    for place, wrong in (("store", False), ("other", True)):
        mounts.write_text(f"proc /proc proc rw 0 0\n10.0.0.9@tcp:/abcdefgh {here} lustre rw 0 0\n")
        store = here / place
        directory = Path(launcher.settings.file_system.directory).parts[1]
        mounts.write_text(mounts.read_text().replace("abcdefgh", directory))
        problems = problems_with(launcher.settings, launcher.image, launcher.hardware, store, launcher.client, mounts)
        assert [problem for problem in problems if "there lies" in str(problem)] == problems
        assert len(problems) == wrong
