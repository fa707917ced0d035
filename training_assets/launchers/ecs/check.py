"""What ECS needs before a node can start there, asked for without starting any."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from trainer.contract.errors import Problem
from training_assets.aws import client
from training_assets.launchers.ecs.task import EcsSettings
from training_assets.profiles.hardware import Hardware

ATTEMPTS = 3
ECR = re.compile(r"(\d{12})\.dkr\.ecr\.([\w-]+)\.[^/]+/([^@:]+)(?::[^@]*)?@(sha256:[0-9a-f]{64})")
TASKS = "ecs-tasks.amazonaws.com"


@dataclass(frozen=True)
class Asked:
    """What a profile says, and a session with AWS, which knows whether it is there."""

    settings: EcsSettings
    image: str
    hardware: Hardware
    session: Any

    def client(self, service: str) -> Any:
        return client(service, ATTEMPTS, region=self.hardware.region, session=self.session)


def problems(settings: EcsSettings, image: str, hardware: Hardware) -> list[Problem]:
    """Each thing that is missing or cannot be asked for."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    asked = Asked(settings, image, hardware, boto3.Session())
    found: list[Problem] = []
    for field, check in CHECKS.items():
        try:
            found += check(asked)
        except (BotoCoreError, ClientError) as error:
            found.append(Problem("AWS", str(error), "an answer: credentials that may ask", field=field))
    return found


def _cluster(asked: Asked) -> Iterator[Problem]:
    clusters = asked.client("ecs").describe_clusters(clusters=[asked.settings.cluster])["clusters"]
    active = [cluster for cluster in clusters if cluster["status"] == "ACTIVE"]
    if not active:
        found = f"no active cluster {asked.settings.cluster} in {asked.hardware.region}"
        yield _missing("backend.cluster", found, "one")
        return
    provider, known = asked.settings.provider(asked.hardware), active[0].get("capacityProviders", [])
    if provider not in known:
        field = "backend.spot_capacity_provider" if asked.hardware.spot else "backend.capacity_provider"
        yield _missing(field, f"{provider}", f"one of the cluster's: {', '.join(known) or 'it has none'}")


def _roles(asked: Asked) -> Iterator[Problem]:
    from botocore.exceptions import ClientError

    for field in ("execution_role", "task_role"):
        arn: str = getattr(asked.settings, field)
        try:
            role = asked.client("iam").get_role(RoleName=arn.rpartition("/")[2])["Role"]
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchEntity":
                raise
            yield _missing(f"backend.{field}", f"no role {arn}", "one")
            continue
        if TASKS not in json.dumps(role["AssumeRolePolicyDocument"]):
            yield _missing(f"backend.{field}", f"{arn}, which ECS may not assume", f"a role that trusts {TASKS}")


def _image(asked: Asked) -> Iterator[Problem]:
    from botocore.exceptions import ClientError

    match = ECR.fullmatch(asked.image)
    if match is None:
        return
    account, region, repository, digest = match.groups()
    if region != asked.hardware.region:
        yield _missing(
            "image.trainer", f"an image in {region}", f"one in {asked.hardware.region}: pulls from elsewhere cost"
        )
        return
    wanted = {"registryId": account, "repositoryName": repository, "imageIds": [{"imageDigest": digest}]}
    try:
        there = asked.client("ecr").describe_images(**wanted)["imageDetails"]
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("ImageNotFoundException", "RepositoryNotFoundException"):
            raise
        there = []
    if not there:
        yield _missing("image.trainer", f"no image {asked.image}", "a digest that was pushed: make image")


def _log_group(asked: Asked) -> Iterator[Problem]:
    groups = asked.client("logs").describe_log_groups(logGroupNamePrefix=asked.settings.log_group)["logGroups"]
    if asked.settings.log_group not in [group["logGroupName"] for group in groups]:
        yield _missing(
            "backend.log_group", f"no log group {asked.settings.log_group}", "one: tasks do not start without"
        )


def _secrets(asked: Asked) -> Iterator[Problem]:
    from botocore.exceptions import ClientError

    for name, arn in asked.settings.secrets.items():
        if ":secretsmanager:" not in arn:
            continue
        secret = ":".join(arn.split(":")[:7])  # behind it: which key of it, and which version
        try:
            asked.client("secretsmanager").describe_secret(SecretId=secret)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            yield _missing(f"backend.secrets.{name}", f"no secret {secret}", "one: tasks do not start without")


def _missing(field: str, found: str, expected: str) -> Problem:
    return Problem("profile", found, expected, field=field)


CHECKS: dict[str, Callable[[Asked], Iterator[Problem]]] = {
    "backend.cluster": _cluster,
    "backend.roles": _roles,
    "image.trainer": _image,
    "backend.log_group": _log_group,
    "backend.secrets": _secrets,
}
