"""The tracking of a run directory: what is told of a run, in the order in which it was told.

``tracking/records.jsonl`` has one :data:`Record` a line; trainings, evaluations and exports append to it, W&B's worker
(``trainer/tracking_worker.py``) reads it from its beginning and tells W&B what is not there yet. So nothing is lost or
told twice, whoever was killed. ``tracking/wandb/`` holds W&B's own files, ``tracking/worker.log`` what it had to say.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from trainer.contract.results import TrainResult, Verdict
from trainer.contract.train_config import TrackingMode

FOLDER = "tracking"
PROVENANCE_FILE = "provenance.json"
MODE = "WANDB_MODE"
SYNC = "wandb sync"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Begin(_Model):
    """An attempt at the training began after ``step`` steps, on the data directory or delivery ``data``."""

    kind: Literal["begin"] = "begin"
    step: int
    data: str


class Row(_Model):
    """Figures of one step; where an interrupted training does a step again, the first row of it counts."""

    kind: Literal["row"] = "row"
    step: int
    values: dict[str, float]


class Gates(_Model):
    """What the gates found by the time the training ended."""

    kind: Literal["gates"] = "gates"
    verdicts: tuple[Verdict, ...]


class Result(_Model):
    """The training ended well."""

    kind: Literal["result"] = "result"
    result: TrainResult


class Made(_Model):
    """Something was made of the checkpoint; ``path`` is relative to the run directory, or absolute outside of it.

    The directory of an evaluation (``eval_report.json``) or of an export (``exports.json``), or a model card.
    """

    kind: Literal["made"] = "made"
    what: Literal["evaluation", "export", "card"]
    path: str


class End(_Model):
    """An attempt ended."""

    kind: Literal["end"] = "end"
    state: Literal["finished", "failed", "stopped"]
    message: str = ""


Record = Begin | Row | Gates | Result | Made | End
_RECORD: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


class Provenance(_Model):
    """What the asset graph knows of a training that it launches: ``provenance.json`` of the run directory.

    ``manifests`` has the delivered files' digests by name, ``directory`` is where their checked rows lie.
    """

    dataset: str
    dataset_dvc: str
    directory: str
    manifests: dict[str, str]
    training_set: str
    window: str
    windows: tuple[str, ...]
    mined_slices: tuple[str, ...]
    git_sha: str | None
    git_dirty: bool | None
    lock_sha256: str | None
    image: str | None


def spool_of(run_dir: Path) -> Path:
    return run_dir / FOLDER / "records.jsonl"


def log_of(run_dir: Path) -> Path:
    return run_dir / FOLDER / "worker.log"


def is_tracked(run_dir: Path) -> bool:
    """Whether somebody has told anything of a run in ``run_dir``."""
    return spool_of(run_dir).is_file()


def effective_mode(asked: TrackingMode, environment: Mapping[str, str] = os.environ) -> TrackingMode:
    """What the recipe asks for; ``WANDB_MODE`` may make it more silent, never louder."""
    modes: tuple[TrackingMode, ...] = get_args(TrackingMode)
    told = environment.get(MODE, "")
    return min(asked, next((mode for mode in modes if mode == told), asked), key=modes.index)


def open_spool(run_dir: Path) -> IO[bytes]:
    """To append to, on a line of its own: a killed writer may have left half a line."""
    path = spool_of(run_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = open(path, "ab", buffering=0)  # noqa: SIM115
    if stream.tell():
        with open(path, "rb") as written:
            written.seek(-1, os.SEEK_END)
            if written.read(1) != b"\n":
                stream.write(b"\n")
    return stream


def line_of(record: Record) -> bytes:
    # A loss may be infinite or not a number, and that is worth seeing: JSON as Python has it.
    return (json.dumps(record.model_dump(mode="json"), ensure_ascii=False) + "\n").encode()


def append(run_dir: Path, *records: Record) -> None:
    """
    Raises:
        OSError: the run directory cannot be written.
    """
    with open_spool(run_dir) as stream:
        stream.write(b"".join(map(line_of, records)))


def parse(line: bytes) -> Record | None:
    """The record in ``line``; None where a killed writer left no whole one."""
    try:
        return _RECORD.validate_python(json.loads(line))
    except (ValueError, ValidationError):
        return None


def read_spool(run_dir: Path) -> Iterator[Record]:
    """Everything that was told of the run so far."""
    if is_tracked(run_dir):
        for line in spool_of(run_dir).read_bytes().splitlines():
            if (record := parse(line)) is not None:
                yield record


def offline_runs(run_dir: Path) -> Sequence[Path]:
    """W&B's directories of the run that were never sent as they were written, the oldest first."""
    return sorted((run_dir / FOLDER / "wandb").glob("offline-run-*"))


def sync_command(run_dir: Path) -> str:
    """What sends an offline run to W&B."""
    return f"{SYNC} {run_dir / FOLDER / 'wandb'}/offline-run-*"


def run_url(entity: str | None, project: str, run_id: str) -> str | None:
    """Where the run is to be seen; None where nobody said whose it is."""
    return None if entity is None else f"https://wandb.ai/{entity}/{project}/runs/{run_id}"
