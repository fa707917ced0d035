"""What the registry keeps of a version: its lineage, scores, gates and files, and the entries of an alias's history."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from trainer.contract.errors import ContractError, Problem
from trainer.contract.eval_report import Metrics
from trainer.contract.manifest import Sha256, Text
from trainer.contract.names import SEMVER
from trainer.contract.train_config import Name
from training_assets.gates import GateResult
from training_assets.stores.source import CodeVersion

PROJECT = re.compile(r"^[a-z][a-z0-9_]{0,47}$")
# No dots: an alias is never taken for a version, nor one of its parts for a file of its history.
ALIAS = re.compile(r"^[a-z0-9][a-z0-9_-]{0,63}(?:/[a-z0-9][a-z0-9_-]{0,63}){0,3}$")
FILE = r"^[A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*$"
PRODUCTION = "production"
CHECKPOINT = "best.pt"
"""The file of a version that its other files were made from."""
LONGEST_VERSION = 64

Version = Annotated[str, Field(pattern=SEMVER.pattern)]
Alias = Annotated[str, Field(pattern=ALIAS.pattern)]
FileName = Annotated[str, Field(pattern=FILE, max_length=200)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileRecord(_Model):
    """One file of a version, in ``models/<project>/<version>/``."""

    sha256: Sha256
    bytes: Annotated[int, Field(ge=0)]


class ShardRef(_Model):
    """A shard by its content address, with the sha256 of its tar file."""

    key: Text
    sha256: Sha256


class DatasetLineage(_Model):
    """The pinned delivery: its digest, DVC's hash of the whole (``….dir``), the sha256 of each of its four files."""

    version: Text
    dvc_hash: Text
    manifests: dict[str, Sha256]


class TrainingSetLineage(_Model):
    """What was trained, chosen and judged on: shards by split (``train``, ``val``, ``test``), in order."""

    digest: Sha256
    window: str
    windows: tuple[str, ...]
    windows_missing: tuple[str, ...] = ()
    mined_slices: tuple[str, ...] = ()
    shards: dict[str, tuple[ShardRef, ...]]


class RunLineage(_Model):
    """The training run. ``config`` is the whole recipe as it was used, ``config_digest`` its ``TrainConfig.digest``.

    ``overrides`` are what of it was set for this run alone; ``profile`` is what it was launched with.
    """

    run_id: Text
    dagster_run_id: str | None = None
    config: dict[str, Any]
    config_digest: Sha256
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    world_size: Annotated[int, Field(ge=1)]
    warm_started_from: str | None = Field(default=None, description="PROJECT@VERSION or the sha256 of a checkpoint.")
    overrides: tuple[str, ...] = ()
    profile: str | None = None


class SweepLineage(_Model):
    """The sweep whose winner it is: the name of its ``tune``, and of the ``trial`` (``<tune>-cv<number>``)."""

    tune: Text
    trial: Text


class Lineage(_Model):
    """Which frames, which code, which settings. ``sweep`` is None where the settings were not searched."""

    dataset: DatasetLineage
    training_set: TrainingSetLineage
    code: CodeVersion
    run: RunLineage
    sweep: SweepLineage | None = None


class Draft(_Model):
    """A version before it is registered. ``metrics`` are overall, by split."""

    project: Name
    recipe: Name
    lineage: Lineage
    metrics: dict[str, Metrics]
    gates: tuple[GateResult, ...]


class RegistryEntry(Draft):
    """A registered version; never changed once it is there."""

    format: Literal[1] = 1
    version: Version
    created_at: AwareDatetime
    files: dict[FileName, FileRecord]

    @property
    def reference(self) -> str:
        return f"{self.project}@{self.version}"


class AliasEntry(_Model):
    """One step of an alias's history: who moved it when, from which version to which, and why.

    ``rolled_back``: it went back to the version before, rather than on to another one.
    """

    sequence: Annotated[int, Field(ge=1)]
    alias: Alias
    version: Version
    previous: Version | None
    by: Text
    reason: str
    at: AwareDatetime
    rolled_back: bool = False


def version_before(history: Iterable[AliasEntry]) -> str | None:
    """Where an alias goes back to; None: there is nothing before. Going back twice goes back two versions."""
    stack: list[str] = []
    for move in history:
        if move.rolled_back:
            stack.pop()
        else:
            stack.append(move.version)
    return stack[-2] if len(stack) > 1 else None


class Overtaken(ContractError):
    """Somebody moved the alias at the same time; ``winner`` is that move."""

    def __init__(self, project: str, wanted: str, winner: AliasEntry) -> None:
        self.winner = winner
        why = f" ({winner.reason})" if winner.reason else ""
        found = f"{winner.version}, moved there by {winner.by} at {winner.at:%Y-%m-%d %H:%M:%S} UTC{why}"
        problem = Problem(f"{project}@{winner.alias}", found, f"{winner.previous or 'nothing'}, as it was a moment ago")
        advice = f"{wanted} was not promoted. Promote it again if it is still to follow."
        super().__init__("somebody else was faster", [problem], advice)


@dataclass(frozen=True)
class Reference:
    """``PROJECT@VERSION`` or ``PROJECT@ALIAS``: ``scenes@1.2.0``, ``fog@candidate/detection/2026-01-05``."""

    project: str
    ref: str

    def __str__(self) -> str:
        return f"{self.project}@{self.ref}"


def parse_reference(text: str) -> Reference:
    """``text`` as a reference.

    Raises:
        ContractError: not of the form PROJECT@VERSION or PROJECT@ALIAS.
    """
    project, at, ref = text.partition("@")
    if not at:
        problem = Problem("reference", f"'{text}'", "PROJECT@VERSION or PROJECT@ALIAS, as in scenes@production")
        raise ContractError("no such model", [problem])
    check_project(project)
    check_ref(ref)
    return Reference(project, ref)


def check_project(project: str) -> None:
    if not PROJECT.fullmatch(project):
        problem = Problem("project", f"'{project}'", "a lower-case letter, then letters, digits or '_', at most 48")
        raise ContractError("no usable name of a project", [problem])


def check_ref(ref: str) -> None:
    if not is_version(ref) and not ALIAS.fullmatch(ref):
        problem = Problem("reference", f"'{ref}'", "a version as 1.2.0, or an alias as production")
        raise ContractError("no such model", [problem])


def is_version(ref: str) -> bool:
    return len(ref) <= LONGEST_VERSION and bool(SEMVER.fullmatch(ref))


def check_alias(alias: str) -> None:
    if not ALIAS.fullmatch(alias):
        expected = "one to four parts of a-z, 0-9, '-' and '_', joined by '/', as in candidate/detection/2026-01-05"
        raise ContractError("no usable name of an alias", [Problem("alias", f"'{alias}'", expected)])
