"""What ECS needs before a node can start there, asked for without starting any."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from trainer.contract.errors import Problem
from training_assets.launchers.ecs_task import EcsSettings
from training_assets.launchers.hardware import Hardware

ATTEMPTS = 3
Client = Callable[[str], Any]
ECR = re.compile(r"(\d{12})\.dkr\.ecr\.([\w-]+)\.[^/]+/([^@:]+)(?::[^@]*)?@(sha256:[0-9a-f]{64})")
TASKS = "ecs-tasks.amazonaws.com"


def problems(settings: EcsSettings, hardware: Hardware) -> list[Problem]:
    """Each thing that is missing or cannot be asked for."""
    from botocore.exceptions import BotoCoreError, ClientError

    from training_assets.launchers.ecs import client

    found: list[Problem] = []
    for field, check in CHECKS.items():
        try:
            found += check(settings, hardware, lambda service: client(service, hardware.region, ATTEMPTS))
        except (BotoCoreError, ClientError) as error:
            found.append(Problem("AWS", str(error), "an answer: credentials that may ask", field=f"backend.{field}"))
    return found


def _cluster(settings: EcsSettings, hardware: Hardware, client: Client) -> Iterator[Problem]:
    clusters = client("ecs").describe_clusters(clusters=[settings.cluster])["clusters"]
    active = [cluster for cluster in clusters if cluster["status"] == "ACTIVE"]
    if not active:
        yield _missing("cluster", f"no active cluster {settings.cluster} in {hardware.region}", "one")
        return
    provider, known = settings.provider(hardware), active[0].get("capacityProviders", [])
    if provider not in known:
        field = "spot_capacity_provider" if hardware.spot else "capacity_provider"
        yield _missing(field, f"{provider}", f"one of the cluster's: {', '.join(known) or 'it has none'}")


def _roles(settings: EcsSettings, hardware: Hardware, client: Client) -> Iterator[Problem]:
    from botocore.exceptions import ClientError

    for field in ("execution_role", "task_role"):
        arn: str = getattr(settings, field)
        try:
            role = client("iam").get_role(RoleName=arn.rpartition("/")[2])["Role"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchEntity":
                raise
            yield _missing(field, f"no role {arn}", "one")
            continue
        if TASKS not in json.dumps(role["AssumeRolePolicyDocument"]):
            yield _missing(field, f"{arn}, which ECS may not assume", f"a role that trusts {TASKS}")


def _image(settings: EcsSettings, hardware: Hardware, client: Client) -> Iterator[Problem]:
    from botocore.exceptions import ClientError

    match = ECR.fullmatch(settings.image)
    if match is None:
        return
    account, region, repository, digest = match.groups()
    if region != hardware.region:
        yield _missing("image", f"an image in {region}", f"one in {hardware.region}: pulls from elsewhere cost")
        return
    asked = {"registryId": account, "repositoryName": repository, "imageIds": [{"imageDigest": digest}]}
    try:
        there = client("ecr").describe_images(**asked)["imageDetails"]
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("ImageNotFoundException", "RepositoryNotFoundException"):
            raise
        there = []
    if not there:
        yield _missing("image", f"no image {settings.image}", "a digest that was pushed: make image")


def _log_group(settings: EcsSettings, hardware: Hardware, client: Client) -> Iterator[Problem]:
    groups = client("logs").describe_log_groups(logGroupNamePrefix=settings.log_group)["logGroups"]
    if settings.log_group not in [group["logGroupName"] for group in groups]:
        yield _missing("log_group", f"no log group {settings.log_group}", "one: tasks do not start without")


def _secrets(settings: EcsSettings, hardware: Hardware, client: Client) -> Iterator[Problem]:
    from botocore.exceptions import ClientError

    for name, arn in settings.secrets.items():
        if ":secretsmanager:" not in arn:
            continue
        secret = ":".join(arn.split(":")[:7])  # behind it: which key of it, and which version
        try:
            client("secretsmanager").describe_secret(SecretId=secret)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            yield _missing(f"secrets.{name}", f"no secret {secret}", "one: tasks do not start without")


def _missing(field: str, found: str, expected: str) -> Problem:
    return Problem("profile", found, expected, field=f"backend.{field}")


Check = Callable[[EcsSettings, Hardware, Client], Iterator[Problem]]
CHECKS: dict[str, Check] = {
    "cluster": _cluster,
    "roles": _roles,
    "image": _image,
    "log_group": _log_group,
    "secrets": _secrets,
}
