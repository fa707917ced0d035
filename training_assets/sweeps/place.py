"""Where a sweep keeps its own: ``<store>/sweeps/<tune>``. What its trials trained lies with the other runs.

``plan.json`` is written last when a sweep is started, ``ended.json`` when it is through: a directory with the first
and without the second is a sweep that is under way. ``settled.json`` is what goes on from the file that was given,
``sweep.yaml``, with what that left open.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import write_text
from trainer.contract.names import cross_validation_name
from trainer.contract.train_config import TrainConfig, read_config
from training_assets.places import Places
from training_assets.records import EvalShards, TrainingSet
from training_assets.sweeps.sweep_file import Settled

SETTLED_FILE, RECIPE_FILE, PLAN_FILE, ENDED_FILE = "settled.json", "recipe.yaml", "plan.json", "ended.json"
TRIAL_FILE, STOP_FILE, SPENT_FILE = "trial.json", "stop.json", "spent.json"
Cause = Literal["manual", "weekly", "slice", "candidate"]
T = TypeVar("T", bound=BaseModel)


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SweepPlan(_Kept):
    """What a sweep was started on: the same for each of its trials, whatever is delivered meanwhile.

    ``recipe_sha256`` is that of the recipe's file, which a proposal is made against.
    """

    tune: str
    recipe: str
    recipe_sha256: str
    window: str
    cause: Cause
    because: str
    started_at: AwareDatetime
    training_set: TrainingSet
    eval_shards: EvalShards


class TrialPlan(_Kept):
    """What one trial is to do. ``run_name`` and ``run_id`` name its directory; ``weights`` is what it begins with.

    ``epoch`` is how far these weights were trained: its own first epoch comes after it.
    """

    trial: int
    run_name: str
    run_id: str
    params: dict[str, Any]
    overrides: tuple[str, ...]
    parent: int | None = None
    epoch: int = 0
    weights: str | None = None


class StopRequest(_Kept):
    """That a trial, or a whole sweep, is to end early, and why. ``pause``: the trial may be gone on with."""

    reason: str
    pause: bool = False


class SpentSoFar(_Kept):
    """What a trial has taken: all its attempts, also the one under way."""

    seconds: float
    gpu_hours: float
    usd: float | None


class Ended(_Kept):
    """Why a sweep is through: nothing was left to try, a cap of its budget was reached, or a person ended it."""

    reason: str
    ended_at: AwareDatetime


@dataclass(frozen=True)
class SweepPlace:
    """The directory of one sweep."""

    root: Path

    @property
    def tune(self) -> str:
        return self.root.name

    @property
    def plan(self) -> SweepPlan:
        return SweepPlan.model_validate_json((self.root / PLAN_FILE).read_bytes())

    @property
    def sweep(self) -> Settled:
        return Settled.model_validate_json((self.root / SETTLED_FILE).read_bytes())

    @property
    def recipe(self) -> TrainConfig:
        """As it was when the sweep was started, the environment's overrides included."""
        return read_config(self.root / RECIPE_FILE, environment={})

    @property
    def stop(self) -> StopRequest | None:
        """That a person wants it to end."""
        return _read(self.root / STOP_FILE, StopRequest)

    @property
    def report(self) -> Path:
        return self.root / "report"

    @property
    def ended(self) -> Ended | None:
        return _read(self.root / ENDED_FILE, Ended)

    def trial(self, number: int) -> "TrialPlace":
        return TrialPlace(self.root / "trials" / cross_validation_name(self.tune, number))

    def keep(self, name: str, what: BaseModel) -> None:
        write_text(self.root / name, what.model_dump_json(indent=2) + "\n")


@dataclass(frozen=True)
class TrialPlace:
    """What the controller of a sweep and the step that runs one of its trials tell each other."""

    root: Path

    @property
    def plan(self) -> TrialPlan | None:
        return _read(self.root / TRIAL_FILE, TrialPlan)

    @property
    def stop(self) -> StopRequest | None:
        return _read(self.root / STOP_FILE, StopRequest)

    @property
    def spent(self) -> SpentSoFar | None:
        return _read(self.root / SPENT_FILE, SpentSoFar)

    def keep(self, what: TrialPlan | StopRequest | SpentSoFar) -> None:
        name = {TrialPlan: TRIAL_FILE, StopRequest: STOP_FILE, SpentSoFar: SPENT_FILE}[type(what)]
        write_text(self.root / name, what.model_dump_json(indent=2) + "\n")

    def go_on(self) -> None:
        """Take back that it is to stop: it was paused."""
        (self.root / STOP_FILE).unlink(missing_ok=True)


def place_of(places: Places, tune: str) -> SweepPlace:
    """Where a sweep of this name is, or would be."""
    return SweepPlace(places.root / "sweeps" / tune)


def sweep_place(places: Places, tune: str) -> SweepPlace:
    """
    Raises:
        ContractError: no sweep of this name was started.
    """
    place = place_of(places, tune)
    if not started(place):
        known = ", ".join(one.tune for one in all_sweeps(places)) or "there are none"
        raise ContractError("no such sweep", [Problem("sweep", tune, f"one that was started: {known}")])
    return place


def started(place: SweepPlace) -> bool:
    return (place.root / PLAN_FILE).is_file()


def all_sweeps(places: Places) -> Iterator[SweepPlace]:
    """Every sweep that was started, by name."""
    for path in sorted((places.root / "sweeps").glob(f"*/{PLAN_FILE}")):
        yield SweepPlace(path.parent)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
