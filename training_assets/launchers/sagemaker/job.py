"""What SageMaker is asked for: settings and a specification become one CreateTrainingJob request. No call is made.

Limits and field names are those of the SageMaker API reference, CreateTrainingJob.
"""

import hashlib
import math
import re
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from trainer.contract.attempts import ATTEMPT_VARIABLE
from trainer.contract.errors import ContractError, Problem
from training_assets.launchers.base import LaunchSpec
from training_assets.profiles.hardware import Hardware

PREFIX = "training-assets"
CHANNELS = PurePosixPath("/opt/ml/input/data")
CHECKPOINTS = "/opt/ml/checkpoints"
"""What SageMaker copies to ``backend.checkpoints`` as it is written, and brings back into the next job of the run."""

NAME_LENGTH, TEXT_LENGTH = 63, 256
LONGEST = 28 * 24 * 3600
START_MARGIN = 900.0
"""Seconds that SageMaker's own limit leaves beyond the nodes', which begins later: when the image has been pulled."""

SHORTEST_PENDING = 1800
NUMBER = r"([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)"
METRICS = {
    "train:step": rf"step {NUMBER}/\d+ \(",
    "train:epoch": rf"epoch {NUMBER}/\d+ ",
    "loss:total": rf"loss: .*\btotal {NUMBER}",
    "val:detection:AP": rf"detection/AP {NUMBER}",
    "val:detection:AP50": rf"detection/AP50 {NUMBER}",
    "val:segmentation:mIoU": rf"segmentation/mIoU {NUMBER}",
    "val:lanes:F1": rf"lanes/F1 {NUMBER}",
    "val:trajectory:ADE": rf"trajectory/ADE {NUMBER}",
    "val:trajectory:FDE": rf"trajectory/FDE {NUMBER}",
}
"""What SageMaker reads out of the log into CloudWatch: the lines are the trainer's ``callbacks/progress.py``."""

S3 = Annotated[str, Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]+(/[^\s]*)?$", max_length=1024)]
Id = Annotated[str, Field(pattern=r"^(subnet|sg)-[0-9a-z]+$", max_length=32)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileSystem(_Model):
    """The FSx for Lustre file system of the store, and where in it the store begins (``/<mount name>/store``)."""

    id: Annotated[str, Field(pattern=r"^fs-[0-9a-f]{8,}$", max_length=21)]
    directory: Annotated[str, Field(pattern=r"^/[A-Za-z0-9]+(/\S*)?$")]


class Settings(_Model):
    """``backend`` of a profile whose launcher is SageMaker.

    ``role`` is what the jobs run as. ``output`` is where SageMaker puts its own ``model.tar.gz``, an empty one: models
    lie in the store. ``checkpoints`` is required on spot instances. ``max_run_seconds`` is the deadline of what has
    none in its recipe. ``keep_alive_seconds`` keeps the instances for the next job, and is paid for. Instances with
    disks of their own (g5, p4d, …) encrypt these in hardware and take no ``volume_kms_key``. ``encrypt_traffic`` slows
    the exchange of gradients down.
    """

    role: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/\S+$")]
    output: S3
    subnets: Annotated[tuple[Id, ...], Field(min_length=1, max_length=16)]
    security_groups: Annotated[tuple[Id, ...], Field(min_length=1, max_length=5)]
    file_system: FileSystem
    checkpoints: S3 | None = None
    max_run_seconds: Annotated[int, Field(ge=1, le=LONGEST)] = 86_400
    volume_gb: Annotated[int, Field(ge=1)] = 50
    keep_alive_seconds: Annotated[int, Field(ge=0, le=3600)] = 0
    output_kms_key: str | None = None
    volume_kms_key: str | None = None
    encrypt_traffic: bool = True
    python: str = "python"


def job_name(spec: LaunchSpec) -> str:
    """The same for the same attempt, whoever asks: the name is what makes creating a job twice create one."""
    whole = f"{PREFIX}-{spec.run_dir.name}-{spec.attempt}"
    name = re.sub(r"[^A-Za-z0-9]+", "-", whole).strip("-")
    if len(name) <= NAME_LENGTH and name == whole:
        return name
    digest = hashlib.sha256(whole.encode()).hexdigest()[:10]
    return f"{name[: NAME_LENGTH - len(digest) - 1].rstrip('-')}-{digest}"


def tags_of(spec: LaunchSpec) -> dict[str, str]:
    tags = {"run": spec.run_dir.name, "attempt": spec.attempt, "project": spec.project}
    return {f"{PREFIX}:{name}": value for name, value in tags.items() if value}


def request_of(
    spec: LaunchSpec, settings: Settings, image: str, hardware: Hardware, mount: PurePosixPath, start_file: str
) -> dict[str, Any]:
    """The request for ``spec``, whose nodes see the store at ``mount`` and begin with ``start_file`` in it.

    There is no ``RetryStrategy``: SageMaker would start a job again in the same attempt, where the words of the first
    start still lie. One attempt is one job, and the next attempt is ours to begin.

    Raises:
        ContractError: SageMaker cannot hold it.
    """
    _refuse_misfit(spec, settings, start_file)
    request: dict[str, Any] = {
        "TrainingJobName": job_name(spec),
        "RoleArn": settings.role,
        "AlgorithmSpecification": {
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": [settings.python, "-m", "trainer.node"],
            "ContainerArguments": ["--from", start_file],
            "MetricDefinitions": [{"Name": name, "Regex": regex} for name, regex in METRICS.items()],
        },
        "InputDataConfig": [_store_channel(settings.file_system, mount)],
        "OutputDataConfig": _present({"S3OutputPath": settings.output, "KmsKeyId": settings.output_kms_key}),
        "ResourceConfig": _present(
            {
                "InstanceType": hardware.instance_type,
                "InstanceCount": spec.nodes,
                "VolumeSizeInGB": settings.volume_gb,
                "VolumeKmsKeyId": settings.volume_kms_key,
                "KeepAlivePeriodInSeconds": settings.keep_alive_seconds or None,
            }
        ),
        "VpcConfig": {"Subnets": list(settings.subnets), "SecurityGroupIds": list(settings.security_groups)},
        "StoppingCondition": _stopping(spec, settings, hardware),
        "Environment": {ATTEMPT_VARIABLE: spec.attempt, "PYTHONUNBUFFERED": "1"},
        "Tags": [{"Key": key, "Value": value} for key, value in tags_of(spec).items()],
        "EnableInterContainerTrafficEncryption": settings.encrypt_traffic and spec.nodes > 1,
        # An isolated container has no credentials, and the trainer copies checkpoints to S3 itself. What it can reach
        # is decided by the subnets and security groups.
        "EnableNetworkIsolation": False,
        "EnableManagedSpotTraining": hardware.spot,
    }
    if settings.checkpoints:
        place = f"{settings.checkpoints.rstrip('/')}/{spec.run_dir.name}"
        request["CheckpointConfig"] = {"S3Uri": place, "LocalPath": CHECKPOINTS}
    return request


def max_run_seconds(spec: LaunchSpec, settings: Settings) -> int:
    """Seconds after which SageMaker itself ends the job."""
    return settings.max_run_seconds if spec.deadline is None else math.ceil(spec.deadline + START_MARGIN)


def _stopping(spec: LaunchSpec, settings: Settings, hardware: Hardware) -> dict[str, int]:
    run, placement = max_run_seconds(spec, settings), math.ceil(hardware.placement_minutes * 60)
    # The launcher gives up waiting earlier; this holds where nobody watches any more.
    stopping = {"MaxRuntimeInSeconds": run, "MaxPendingTimeInSeconds": max(SHORTEST_PENDING, placement)}
    return {**stopping, "MaxWaitTimeInSeconds": run + placement} if hardware.spot else stopping


def _store_channel(file_system: FileSystem, mount: PurePosixPath) -> dict[str, Any]:
    source = {
        "FileSystemId": file_system.id,
        "FileSystemType": "FSxLustre",
        "FileSystemAccessMode": "rw",
        "DirectoryPath": file_system.directory,
    }
    return {"ChannelName": mount.name, "DataSource": {"FileSystemDataSource": source}}


def _refuse_misfit(spec: LaunchSpec, settings: Settings, start_file: str) -> None:
    problems = []
    if (seconds := max_run_seconds(spec, settings)) > LONGEST:
        limit = f"at most {LONGEST - spec.deadline_grace - START_MARGIN:.0f}: SageMaker ends a job after 28 days"
        problems.append(Problem("recipe", f"{seconds} s in all", limit, field="launch.max_run_seconds"))
    if len(start_file) > TEXT_LENGTH:
        problems.append(Problem("run directory", start_file, f"a path of at most {TEXT_LENGTH} characters"))
    if problems:
        raise ContractError("SageMaker cannot run this", problems)


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
