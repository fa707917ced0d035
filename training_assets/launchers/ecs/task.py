"""What ECS is asked for: a profile's settings for it, the task definition, and the request that starts one node."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from trainer.contract.errors import ContractError, Problem
from trainer.contract.nodes import NODE_VARIABLE
from training_assets.launchers.base import LaunchSpec
from training_assets.launchers.hardware import instance_of
from training_assets.profiles.hardware import Hardware

CONTAINER = "node"
FAMILY = "training-assets-trainer"
TAG = "training-assets"
OVERRIDES_AT_MOST = 8192
"""Characters of a request's overrides, those of the JSON included (RunTask, ``overrides``)."""

STOP_SECONDS = 120
"""From SIGTERM to SIGKILL: as long as a spot instance lives after its notice. A node takes 110 at most."""

OF_MEMORY = 0.9
"""Of an instance's memory a node may use so much; the system and ECS's agent need the rest."""

SHARED_MEMORY = 0.5
"""Of a node's memory, the most that /dev/shm may take of it."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,255}$")]
Role = Annotated[str, Field(pattern=r"^arn:[\w-]+:iam::\d{12}:role/\S+$")]
Secret = Annotated[str, Field(pattern=r"^arn:[\w-]+:(secretsmanager|ssm):\S+$")]


class EcsSettings(BaseModel):
    """``backend`` of a profile with ``launcher: ecs``.

    ``capacity_provider`` is the cluster's pool of on-demand instances, ``spot_capacity_provider`` that of
    interruptible ones: ``hardware.spot`` chooses. ``zone``: the availability zone that all nodes must be in.
    ``secrets``: environment variables whose values ECS fetches, by ARN.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cluster: Name
    execution_role: Role
    task_role: Role
    capacity_provider: Name
    spot_capacity_provider: Name | None = None
    zone: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d[a-z]$")] | None = None
    log_group: Annotated[str, Field(pattern=r"^[A-Za-z0-9_./#-]+$")]
    secrets: dict[str, Secret] = {}

    def provider(self, hardware: Hardware) -> str | None:
        return self.spot_capacity_provider if hardware.spot else self.capacity_provider


def task_definition(settings: EcsSettings, image: str, hardware: Hardware, store: Path) -> dict[str, Any]:
    """A node's task. ``family`` holds the digest of the rest: the same content is the same family, in every process.

    Host network: EFA devices are the host's. ``store`` is at the same path on the host and in the container.
    """
    instance = f"attribute:ecs.instance-type == {hardware.instance_type}"
    definition: dict[str, Any] = {
        "networkMode": "host",
        "requiresCompatibilities": ["EC2"],
        "executionRoleArn": settings.execution_role,
        "taskRoleArn": settings.task_role,
        "volumes": [{"name": "store", "host": {"sourcePath": str(store)}}],
        "placementConstraints": [{"type": "memberOf", "expression": instance}],
        "containerDefinitions": [_container(settings, image, hardware, store)],
    }
    digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()
    tags = [{"key": f"{TAG}:content", "value": digest}]
    return {"family": f"{FAMILY}-{digest[:16]}", "tags": tags, **definition}


def run_request(
    settings: EcsSettings,
    hardware: Hardware,
    family: str,
    spec: LaunchSpec,
    node: int,
    command: Sequence[str],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """The RunTask that starts node ``node`` of ``spec``, once however often it is sent.

    Raises:
        ContractError: command and environment are longer than ECS takes.
    """
    return {
        "cluster": settings.cluster,
        "taskDefinition": family,
        "count": 1,
        "clientToken": hashlib.sha256(f"{spec.run_dir}/{spec.attempt}/{node}".encode()).hexdigest()[:40],
        "startedBy": spec.attempt,
        "capacityProviderStrategy": [{"capacityProvider": settings.provider(hardware), "weight": 1}],
        "placementConstraints": _placement(settings),
        "overrides": _overrides(command, {**environment, NODE_VARIABLE: str(node)}),
        "tags": [{"key": key, "value": value} for key, value in tags_of(spec, node).items()],
        "propagateTags": "TASK_DEFINITION",
        "enableECSManagedTags": True,
    }


def tags_of(spec: LaunchSpec, node: int) -> dict[str, str]:
    tags = {"run": spec.run_dir.name, "attempt": spec.attempt, "project": spec.project, "node": str(node)}
    return {f"{TAG}:{name}": value for name, value in tags.items() if value}


def _container(settings: EcsSettings, image: str, hardware: Hardware, store: Path) -> dict[str, Any]:
    instance = instance_of(hardware)
    memory = int(instance.memory_gib * 1024 * OF_MEMORY)
    gpus = [{"type": "GPU", "value": str(instance.gpus)}] if instance.gpus else []
    environment = [{"name": "FI_EFA_USE_HUGE_PAGE", "value": "0"}] if instance.efa else []
    log = {
        "awslogs-group": settings.log_group,
        "awslogs-region": hardware.region,
        "awslogs-stream-prefix": "trainer",
        # A log service that is slow must not hold up the training. All of it is in the store as well.
        "mode": "non-blocking",
        "max-buffer-size": "25m",
    }
    return {
        "name": CONTAINER,
        "image": image,
        "essential": True,
        # The image's own is the trainer's command line; a request can replace the command alone.
        "entryPoint": ["/usr/bin/env"],
        "memory": memory,
        "resourceRequirements": gpus,
        "environment": environment,
        "secrets": [{"name": name, "valueFrom": arn} for name, arn in sorted(settings.secrets.items())],
        "mountPoints": [{"sourceVolume": "store", "containerPath": str(store)}],
        "linuxParameters": {
            "initProcessEnabled": True,
            "sharedMemorySize": int(memory * SHARED_MEMORY),
            "devices": [_efa(number) for number in range(instance.efa)],
            "capabilities": {"drop": ["ALL"]},
        },
        "dockerSecurityOptions": ["no-new-privileges"],
        "ulimits": [_limit("memlock", -1), _limit("stack", 64 << 20), _limit("nofile", 1 << 16)],
        "stopTimeout": STOP_SECONDS,
        "logConfiguration": {"logDriver": "awslogs", "options": log},
    }


def _efa(number: int) -> dict[str, Any]:
    path = f"/dev/infiniband/uverbs{number}"
    return {"hostPath": path, "containerPath": path, "permissions": ["read", "write", "mknod"]}


def _limit(name: str, value: int) -> dict[str, Any]:
    return {"name": name, "softLimit": value, "hardLimit": value}


def _placement(settings: EcsSettings) -> list[dict[str, str]]:
    constraints = [{"type": "distinctInstance"}]
    if settings.zone:
        zone = f"attribute:ecs.availability-zone == {settings.zone}"
        constraints.append({"type": "memberOf", "expression": zone})
    return constraints


def _overrides(command: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    pairs = [{"name": name, "value": value} for name, value in sorted(environment.items())]
    overrides = {"containerOverrides": [{"name": CONTAINER, "command": list(command), "environment": pairs}]}
    if (length := len(json.dumps(overrides))) > OVERRIDES_AT_MOST:
        longest = max(pairs, key=lambda pair: len(pair["value"]))
        found = f"{length} characters, of which {len(longest['value'])} are {longest['name']}"
        problem = Problem("RunTask", found, f"at most {OVERRIDES_AT_MOST}", field="overrides")
        advice = "Give fewer or shorter arguments: what is long belongs into a file in the store."
        raise ContractError("ECS does not take so long a command and environment", [problem], advice)
    return overrides
