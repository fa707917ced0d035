"""What assets hand to each other: small typed records of what was made and where it lies.

The big files are in the store and never pass through Dagster. Nothing here reads or writes files: the record store
(``stores/record_store.py``) does. Paths are relative to the store.
"""

from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from trainer.contract.eval_report import EvalReport
from trainer.contract.files import digest_of
from trainer.contract.pinned import NO_ROWS
from trainer.contract.results import Exports, TrainResult
from trainer.contract.windows import Cadence
from training_assets.gates import GateResult
from training_assets.stores.source import CodeVersion


class Record(BaseModel):
    """Unknown fields are refused, so that a record of another version of the code is not half understood."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetVersion(Record):
    """A pinned delivery. ``windows`` counts the rows of the train split in each window, ``cadence`` long.

    ``directory`` holds the checked rows (``trainer.contract.pinned``). ``delivery`` is the directory that their images
    lay in; what was fetched from elsewhere may be removed later.
    """

    version: str
    directory: str
    delivery: str
    files: dict[str, str]
    dvc_hash: str
    cadence: Cadence
    rows: dict[str, int]
    labels: dict[str, int]
    windows: dict[str, int]
    licences: dict[str, int]


class ShardFile(Record):
    """One shard of ``<store>/shards``."""

    key: str
    sha256: str
    bytes: int
    samples: int


class ShardList(Record):
    """What ``python -m trainer shard --list`` wrote for one window (or one split, then ``window`` names it).

    ``manifest_sha256`` is the digest of the rows that were staged.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    window: str | None = None
    manifest_sha256: str
    samples: int
    shards: tuple[ShardFile, ...]
    bytes_staged: int
    bytes_reused: int
    label_counts: dict[str, int]
    attribute_counts: dict[str, Any]

    @classmethod
    def empty(cls, window: str) -> "ShardList":
        """The list of a window without rows."""
        nothing: dict[str, Any] = {"samples": 0, "shards": (), "bytes_staged": 0, "bytes_reused": 0}
        return cls(window=window, manifest_sha256=NO_ROWS, label_counts={}, attribute_counts={}, **nothing)

    @property
    def digest(self) -> str:
        return digest_of([shard.key for shard in self.shards])


class MinedSlice(ShardList):
    """The shards of a mined slice, and when its first and its last frame were captured."""

    captured_from: AwareDatetime
    captured_until: AwareDatetime


class EvalShards(Record):
    """The shards that models are chosen (val) and judged (test) on."""

    val: ShardList
    test: ShardList

    @property
    def digest(self) -> str:
        return digest_of([self.val.digest, self.test.digest])


class TrainingSet(Record):
    """One ``data.json``: the shards of the windows that were found, and val. ``dataset`` is what was pinned then."""

    recipe: str
    window: str
    directory: str
    digest: str
    windows_found: tuple[str, ...]
    windows_missing: tuple[str, ...]
    slices: tuple[str, ...]
    samples: int
    dataset: DatasetVersion


class Checkpoint(Record):
    """A finished training, and the code that did it.

    ``overrides`` (``a.b=c``) are what it changed of its recipe; whoever judges it goes by them. ``warm_started_from``
    is PROJECT@VERSION or the sha256 of a checkpoint.
    """

    run_id: str
    directory: str
    sha256: str
    result: TrainResult
    training_set: TrainingSet
    dagster_run_id: str
    code: CodeVersion
    overrides: tuple[str, ...] = ()
    profile: str = ""
    warm_started_from: str | None = None


class ExportedModel(Record):
    """The forms that a checkpoint was exported to."""

    directory: str
    exports: Exports


class Evaluation(Record):
    """One evaluation of a checkpoint; ``data`` holds the slices and shards that it was scored on.

    ``overrides`` are the checkpoint's.
    """

    directory: str
    data: str
    report: EvalReport
    overrides: tuple[str, ...] = ()


class SliceEvaluation(Evaluation):
    """The version in production on a mined slice. ``targets`` is not passed where it is below the recipe's."""

    production: str
    targets: GateResult
    dagster_run_id: str


class ModelCard(Record):
    path: str


class Registered(Record):
    """A registered version; its ``directory`` is relative to the archive."""

    project: str
    version: str
    directory: str
    aliases: tuple[str, ...]


class TrialRun(Record):
    """One trial of a sweep, as it ended: ``stopped`` before its last epoch, for ``reason``, or ``completed``.

    Only what was completed has a checkpoint that was exported and evaluated (on val). ``metrics`` are all that goals
    and constraints may name. Costs are those of all its attempts.
    """

    tune: str
    trial: int
    state: Literal["completed", "stopped"]
    reason: str
    params: dict[str, Any]
    run_id: str
    directory: str
    metrics: dict[str, float]
    node_seconds: float
    gpu_hours: float
    usd: float | None
    checkpoint: Checkpoint | None = None
    exported: ExportedModel | None = None
    evaluation: Evaluation | None = None


class SweepResult(Record):
    """What a sweep of so many ``trials`` came to; ``directory`` holds its report.

    ``best`` are the trials that were judged again, in order, ``winner`` the one of them that is registered. ``smoke``
    are the simulated scenes that they were judged on.
    """

    tune: str
    directory: str
    trials: int
    best: tuple[str, ...]
    winner: str | None
    registered: Registered | None
    smoke: ShardList | None
