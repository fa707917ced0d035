"""SageMaker's ``InputDataConfig``: how a training job there sees the places of a run.

A channel called ``shards`` is at ``/opt/ml/input/data/shards`` of every host. ``docs/staging.md`` says when an S3
channel may be sharded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.contract.errors import ContractError, Problem
from training_assets.places import Places
from training_assets.profiles import Profile
from training_assets.profiles.staging import FsxStaging

ROOT = Path("/opt/ml/input/data")
MOST_CHANNELS = 20


@dataclass(frozen=True)
class FileSystemChannel:
    """A directory of the profile's FSx file system; ``place`` is where it lies on this machine."""

    name: str
    place: Path
    writable: bool = False

    def described(self, staging: FsxStaging) -> dict[str, Any]:
        """The channel as ``CreateTrainingJob`` takes it.

        Raises:
            ContractError: ``place`` is not on the file system.
        """
        if not self.place.resolve().is_relative_to(staging.mount.resolve()):
            problem = Problem(f"channel {self.name}", str(self.place), f"a directory below {staging.mount}")
            raise ContractError("a place is not on the FSx file system", [problem], "Have `store` below staging.mount.")
        source = {
            "FileSystemId": staging.file_system_id,
            "FileSystemType": "FSxLustre",
            "FileSystemAccessMode": "rw" if self.writable else "ro",
            "DirectoryPath": f"/{staging.mount_name}/{staging.relative(self.place)}".rstrip("/"),
        }
        return {"ChannelName": self.name, "DataSource": {"FileSystemDataSource": source}}


@dataclass(frozen=True)
class S3Channel:
    """The objects below ``uri``: on every host all of them, or ``sharded`` its own part of the objects alone."""

    name: str
    uri: str
    sharded: bool = False
    streamed: bool = True

    def described(self) -> dict[str, Any]:
        source = {
            "S3DataType": "S3Prefix",
            "S3Uri": f"{self.uri.rstrip('/')}/",  # without the slash `a/1` would take `a/10` along
            "S3DataDistributionType": "ShardedByS3Key" if self.sharded else "FullyReplicated",
        }
        mode = "FastFile" if self.streamed else "File"
        return {"ChannelName": self.name, "InputMode": mode, "DataSource": {"S3DataSource": source}}


def run_channels(places: Places, run_directory: Path) -> tuple[FileSystemChannel, ...]:
    """The store to read from (shards, training sets, weights to begin with), and the run's directory to write to."""
    return FileSystemChannel("store", places.root), FileSystemChannel("run", run_directory, writable=True)


def on_hosts(path: Path, channels: Iterable[FileSystemChannel]) -> Path:
    """Where ``path`` of this machine is on the training hosts: in the channel that holds least beside it.

    Raises:
        ContractError: no channel holds it.
    """
    holding = [channel for channel in channels if path.is_relative_to(channel.place)]
    if not holding:
        problem = Problem(str(path), "in no channel", "a path below the store or the run's directory")
        raise ContractError("training hosts cannot see a path", [problem])
    closest = max(holding, key=lambda channel: len(channel.place.parts))
    return ROOT / closest.name / path.relative_to(closest.place)


def input_data_config(
    profile: Profile, channels: Sequence[FileSystemChannel], more: Sequence[S3Channel] = ()
) -> list[dict[str, Any]]:
    """``InputDataConfig`` of a training job whose hosts mount the profile's file system.

    Raises:
        ContractError: the profile has no FSx file system, a place is not on it, or a name is given twice.
    """
    staging = profile.staging
    if not isinstance(staging, FsxStaging):
        problem = Problem(f"profile {profile.name}", f"kind: {staging.kind}", "kind: fsx", field="staging")
        raise ContractError("SageMaker mounts an FSx file system", [problem], "See docs/staging.md.")
    described = [*(channel.described(staging) for channel in channels), *(channel.described() for channel in more)]
    _refuse_repeated([channel["ChannelName"] for channel in described])
    return described


def _refuse_repeated(names: Sequence[str]) -> None:
    if len(set(names)) < len(names) or len(names) > MOST_CHANNELS:
        problem = Problem("InputDataConfig", ", ".join(names), f"at most {MOST_CHANNELS} channels of different names")
        raise ContractError("channels cannot be told apart", [problem])
