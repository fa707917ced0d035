"""What an event says, by its type: the fields that consumers rely on (docs/events.md). Making and sending them is
``events.py``."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from trainer.contract.eval_report import Metrics
from trainer.contract.manifest import Sha256
from training_assets.gates import GateRow, Severity


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Event(_Model):
    """What every event says."""

    format: Literal[1] = 1
    id: Sha256
    at: AwareDatetime
    message: str


class _ModelEvent(_Event):
    """What events about a model say. ``checkpoint_sha256`` is None where the run ended without a checkpoint."""

    project: str
    recipe: str
    window: str
    run_id: str
    checkpoint_sha256: Sha256 | None


class ModelRegistered(_ModelEvent):
    """A version is in the registry. ``metrics`` are overall, by split."""

    type: Literal["model.registered"] = "model.registered"
    version: str
    aliases: tuple[str, ...]
    metrics: dict[str, Metrics]


class ModelPromoted(_Event):
    """An alias points to another version. ``sequence`` counts its moves, ``previous`` is where it pointed before."""

    type: Literal["model.promoted"] = "model.promoted"
    project: str
    alias: str
    sequence: int
    version: str
    previous: str | None
    by: str
    reason: str
    rolled_back: bool = False


class GateFailed(_ModelEvent):
    """A gate is not passed; ``rows`` are its failed comparisons. A gate inside the training has none."""

    type: Literal["gate.failed"] = "gate.failed"
    gate: str
    severity: Severity
    rows: tuple[GateRow, ...]


class CandidateBelowTarget(_ModelEvent):
    """A trained model misses targets of slices: a search for better settings, or more data, is wanted."""

    type: Literal["candidate.below_target"] = "candidate.below_target"
    slices: Annotated[tuple[GateRow, ...], Field(min_length=1)]


class SliceRefused(_Event):
    """A mined slice was put aside. ``report`` is where its problems stand, ``problems`` are the first of them."""

    type: Literal["slice.refused"] = "slice.refused"
    slice: str
    manifest_sha256: Sha256
    report: str
    problems: tuple[str, ...]


class _Wanted(_Event):
    """Something that a person or another system is to do for a recipe.

    ``slice`` and ``rows`` (the targets that are missed on it) are there where a slice is why, ``production`` (its
    version) where it is production that misses them.
    """

    project: str
    recipe: str
    cause: str
    slice: str | None = None
    production: str | None = None
    rows: tuple[GateRow, ...] = ()


class SweepRequested(_Wanted):
    """A search for better settings is wanted."""

    type: Literal["sweep.requested"] = "sweep.requested"


class DataRequested(_Wanted):
    """More data like a slice is wanted."""

    type: Literal["data.requested"] = "data.requested"


Event = (
    ModelRegistered | ModelPromoted | GateFailed | CandidateBelowTarget | SliceRefused | SweepRequested | DataRequested
)
