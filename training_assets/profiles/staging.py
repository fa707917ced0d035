"""The profile field ``staging``: how data comes onto the fast storage. One model a kind."""

import itertools
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from trainer.contract.files import inside

MOST_LINKS = 8
"""Data repository associations that FSx allows on one file system."""

S3_URI = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/\x00-\x1f]+)*/?$"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _is_absolute(value: Path) -> Path:
    if not value.is_absolute() or ".." in value.parts:
        raise ValueError("an absolute path without '..'")
    return value


def _refuse_overlap(what: str, paths: Sequence[PurePosixPath]) -> None:
    for one, other in itertools.permutations(paths, 2):
        if one.is_relative_to(other):
            raise ValueError(f"{what} of two links overlap, which FSx refuses: {one} lies in {other}")


class Link(_Model):
    """A directory that mirrors what lies below an ``s3://`` URI: both name the same things by the same paths."""

    directory: Path
    uri: Annotated[str, Field(pattern=S3_URI)]

    @field_validator("directory")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return _is_absolute(value)

    @field_validator("uri")
    @classmethod
    def _without_end(cls, value: str) -> str:
        return value.rstrip("/")

    def holds(self, uri: str) -> bool:
        """Whether something below this link's URI is meant."""
        return uri.startswith(f"{self.uri}/") and len(uri.rstrip("/")) > len(self.uri)

    def place_of(self, uri: str) -> Path:
        """Where ``uri`` lies in the directory.

        Raises:
            OutsideRoot: its path leads out of it.
        """
        return inside(self.directory, uri.removeprefix(f"{self.uri}/").rstrip("/"))

    def covers(self, place: Path) -> bool:
        """Whether ``place`` lies in the directory, or is it."""
        return place.resolve().is_relative_to(self.directory.resolve())

    def uri_of(self, place: Path) -> str:
        relative = place.resolve().relative_to(self.directory.resolve()).as_posix()
        return self.uri if relative == "." else f"{self.uri}/{relative}"


class NoStaging(_Model):
    """Data is used where it lies, or copied by the step that needs it."""

    kind: Literal["none"] = "none"


class FsxStaging(_Model):
    """An FSx for Lustre file system, mounted at ``mount``, and the S3 prefixes that its directories are linked to.

    ``mount_name`` is the file system's own (FSx's ``LustreConfiguration.MountName``): SageMaker asks for it.
    """

    kind: Literal["fsx"]
    file_system_id: Annotated[str, Field(pattern=r"^fs-[0-9a-f]{8,17}$")]
    mount: Path = Path("/fsx")
    mount_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,8}$")] = "fsx"
    links: Annotated[tuple[Link, ...], Field(min_length=1, max_length=MOST_LINKS)]

    @field_validator("mount")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return _is_absolute(value)

    @model_validator(mode="after")
    def _apart(self) -> "FsxStaging":
        for link in self.links:
            if not link.directory.is_relative_to(self.mount):
                raise ValueError(f"{link.directory} is not below the mount point {self.mount}")
        _refuse_overlap("directories", [PurePosixPath(link.directory) for link in self.links])
        _refuse_overlap("URIs", [PurePosixPath(link.uri) for link in self.links])
        return self

    def relative(self, place: Path) -> str:
        """``place`` as FSx's tasks name it: relative to the mount point, which itself is ``/``."""
        relative = place.resolve().relative_to(self.mount.resolve()).as_posix()
        return "/" if relative == "." else relative


class DataSyncTask(Link):
    """A DataSync task between the two; the task itself (locations, options, role) is the infrastructure's."""

    task_arn: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:datasync:[a-z0-9-]+:\d{12}:task/task-[0-9a-f]{17}$")]


class DataSyncStaging(_Model):
    """``inbound`` copies from S3 to the fast storage, ``outbound`` back; without the latter nothing is exported."""

    kind: Literal["datasync"]
    inbound: DataSyncTask
    outbound: DataSyncTask | None = None


class DvcStaging(_Model):
    """Pinned versions are pulled with DVC into ``staged/`` of the store, and stay there."""

    kind: Literal["dvc"]


Staging = Annotated[NoStaging | FsxStaging | DataSyncStaging | DvcStaging, Field(discriminator="kind")]
