"""What is missing in the account before a job can run: asks AWS, starts nothing."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from trainer.contract.errors import Problem
from training_assets.launchers.sagemaker.job import Settings
from training_assets.profiles.hardware import Hardware

MOUNTS = Path("/proc/self/mounts")
Clients = Callable[[str], Any]
"""A client of the service with this name."""


def problems_with(
    settings: Settings, image: str, hardware: Hardware, store: Path, client: Clients, mounts: Path = MOUNTS
) -> list[Problem]:
    """One question a service; one that does not answer is a problem too, and the others are asked all the same."""
    from botocore.exceptions import BotoCoreError, ClientError

    questions: dict[str, Callable[[], Iterator[Problem]]] = {
        "iam": lambda: _role(settings, client("iam")),
        "ecr": lambda: _image(image, client("ecr")),
        "ec2": lambda: _network(settings, client("ec2")),
        "fsx": lambda: _file_system(settings, client("fsx")),
        "service-quotas": lambda: _quota(hardware, client("service-quotas")),
        "mounts": lambda: _store(settings, store, mounts),
    }
    problems: list[Problem] = []
    for service, question in questions.items():
        try:
            problems += question()
        except (ClientError, BotoCoreError) as error:
            problems.append(Problem(service, str(error), "an answer: docs/launching.md has the permissions"))
    return problems


def _role(settings: Settings, iam: Any) -> Iterator[Problem]:
    try:
        role = iam.get_role(RoleName=settings.role.rpartition("/")[2])["Role"]
    except iam.exceptions.NoSuchEntityException:
        yield Problem("IAM", settings.role, "a role that exists", field="backend.role")
        return
    if "sagemaker.amazonaws.com" not in str(role["AssumeRolePolicyDocument"]):
        yield Problem("IAM", f"{settings.role}, which SageMaker may not assume",
                      "sagemaker.amazonaws.com in its trust policy", field="backend.role")  # fmt: skip


def _image(image: str, ecr: Any) -> Iterator[Problem]:
    address, _, digest = image.partition("@")
    registry, _, repository = address.partition("/")
    try:
        ecr.describe_images(
            registryId=registry.partition(".")[0], repositoryName=repository, imageIds=[{"imageDigest": digest}]
        )
    except (ecr.exceptions.RepositoryNotFoundException, ecr.exceptions.ImageNotFoundException) as error:
        found = error.response["Error"]["Message"]
        yield Problem("ECR", found, f"{image} (make image pushes it)", field="image.trainer")


def _network(settings: Settings, ec2: Any) -> Iterator[Problem]:
    found = _filtered(ec2.describe_subnets, "Subnets", "subnet-id", settings.subnets)
    yield from _absent(settings.subnets, {subnet["SubnetId"] for subnet in found}, "backend.subnets")
    groups = _filtered(ec2.describe_security_groups, "SecurityGroups", "group-id", settings.security_groups)
    yield from _absent(settings.security_groups, {group["GroupId"] for group in groups}, "backend.security_groups")
    networks = sorted({one["VpcId"] for one in (*found, *groups)})
    if len(networks) > 1:
        yield Problem("EC2", ", ".join(networks), "subnets and security groups of one VPC", field="backend.subnets")
    if groups and not any(_lets_itself_in(group) for group in groups):
        yield Problem("EC2", f"no rule in {', '.join(settings.security_groups)} that names the group itself",
                      "nodes that reach each other: all traffic from the group to itself",
                      field="backend.security_groups")  # fmt: skip


def _file_system(settings: Settings, fsx: Any) -> Iterator[Problem]:
    field = "backend.file_system"
    try:
        found = fsx.describe_file_systems(FileSystemIds=[settings.file_system.id])["FileSystems"]
    except fsx.exceptions.FileSystemNotFound:
        found = []
    if not found:
        yield Problem("FSx", settings.file_system.id, "a file system that exists", field=f"{field}.id")
        return
    lifecycle, mount_name = (
        found[0].get("Lifecycle", "AVAILABLE"),
        found[0].get("LustreConfiguration", {}).get("MountName"),
    )
    if found[0]["FileSystemType"] != "LUSTRE":
        yield Problem("FSx", found[0]["FileSystemType"], "LUSTRE", field=f"{field}.id")
    if lifecycle not in ("AVAILABLE", "UPDATING"):
        yield Problem("FSx", f"{settings.file_system.id} is {lifecycle}", "AVAILABLE", field=f"{field}.id")
    if mount_name and PurePosixPath(settings.file_system.directory).parts[1] != mount_name:
        yield Problem("FSx", settings.file_system.directory, f"a directory below /{mount_name}, the mount name",
                      field=f"{field}.directory")  # fmt: skip


def _quota(hardware: Hardware, quotas: Any) -> Iterator[Problem]:
    wanted = f"{hardware.instance_type} for {'spot ' if hardware.spot else ''}training job usage"
    for page in quotas.get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker"):
        for quota in page["Quotas"]:
            if quota["QuotaName"] == wanted and math.floor(quota["Value"]) < 1:
                yield Problem("Service Quotas", f"'{wanted}' is {quota['Value']:g}",
                              "at least as many as a training has nodes: ask for an increase")  # fmt: skip


def _store(settings: Settings, store: Path, mounts: Path) -> Iterator[Problem]:
    """Where this machine has the store on Lustre, its place there must be what the jobs mount."""
    places = {}
    for device, place, kind, *_ in (line.split() for line in mounts.read_text().splitlines()):
        if kind == "lustre" and store.is_relative_to(place):
            places[place] = device.partition(":")[2]
    if places:
        nearest = max(places, key=len)
        directory = PurePosixPath(places[nearest]) / store.relative_to(nearest)
        if directory != PurePosixPath(settings.file_system.directory):
            yield Problem("profile", settings.file_system.directory, f"{directory}: there lies {store}",
                          field="backend.file_system.directory")  # fmt: skip


def _filtered(call: Callable[..., Any], what: str, name: str, ids: tuple[str, ...]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = call(Filters=[{"Name": name, "Values": list(ids)}])[what]
    return found


def _absent(wanted: tuple[str, ...], found: set[str], field: str) -> Iterator[Problem]:
    for one in wanted:
        if one not in found:
            yield Problem("EC2", one, f"one that exists in this region ({len(found)} of {len(wanted)} do)", field=field)


def _lets_itself_in(group: dict[str, Any]) -> bool:
    return any(
        pair["GroupId"] == group["GroupId"]
        for rule in group["IpPermissions"]
        for pair in rule.get("UserIdGroupPairs", ())
    )
