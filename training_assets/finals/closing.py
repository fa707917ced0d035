"""A sweep that is through, as the parts of its end need it; and what was made before, kept."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import dagster as dg
from pydantic import BaseModel

from trainer.contract.files import write_text
from trainer.contract.names import cross_validation_name
from trainer.contract.train_config import TrainConfig
from training_assets.launchers import Launcher
from training_assets.places import Places
from training_assets.policies import reaching_storage
from training_assets.profiles import Profile
from training_assets.records import TrialRun
from training_assets.stores.dvc import DvcStore
from training_assets.stores.entries import CHECKPOINT, PRODUCTION, RegistryEntry
from training_assets.stores.record_store import MissingRecord, RecordStore
from training_assets.stores.registry import Registry
from training_assets.sweeps.journal import read_trials
from training_assets.sweeps.place import SweepPlace, SweepPlan
from training_assets.sweeps.purse import SweepPurse
from training_assets.sweeps.sweep_file import Settled
from training_assets.sweeps.trials import Trials
from training_assets.sweeps.under_way import purse_of

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class Closing:
    """One step's work on the end of one sweep. ``today`` is the recipe as the graph has it now."""

    context: dg.AssetExecutionContext
    profile: Profile
    places: Places
    launcher: Launcher
    registry: Registry
    dvc: DvcStore
    place: SweepPlace
    today: TrainConfig

    @cached_property
    def plan(self) -> SweepPlan:
        return self.place.plan

    @cached_property
    def sweep(self) -> Settled:
        return self.place.sweep

    @cached_property
    def recipe(self) -> TrainConfig:
        """The sweep's own, with today's limits for a release."""
        return self.place.recipe.model_copy(update={"release": self.today.release})

    @cached_property
    def trials(self) -> Trials:
        return read_trials(self.place.root)

    @cached_property
    def purse(self) -> SweepPurse:
        return purse_of(self.place, self.trials, self.launcher)

    @cached_property
    def runs(self) -> dict[int, TrialRun]:
        """What is on record of each trial; one that failed has none."""
        store, key = RecordStore(self.places), dg.AssetKey([self.plan.recipe, "trial"])
        found: dict[int, TrialRun] = {}
        for trial in self.trials:
            try:
                found[trial.id] = store.read(key, cross_validation_name(self.place.tune, trial.id), TrialRun)
            except MissingRecord as missing:
                if trial.state == "completed":
                    self.context.log.warning(f"trial {trial.id} is left out: {missing}")
        return found

    @cached_property
    def production(self) -> RegistryEntry | None:
        with reaching_storage():
            return self.registry.resolve(self.recipe.project, PRODUCTION)

    @cached_property
    def production_weights(self) -> Path | None:
        if self.production is None:
            return None
        with reaching_storage():
            return self.registry.file(self.production, CHECKPOINT)

    def directory(self, trial: str) -> Path:
        """Where the end of the sweep keeps what it makes of a trial."""
        return self.place.root / "finals" / trial


def kept(path: Path, kind: type[T], make: Callable[[], T]) -> T:
    """What ``path`` holds, made and put there first where nothing is."""
    if not path.is_file():
        write_text(path, make().model_dump_json(indent=2) + "\n")
    return kind.model_validate_json(path.read_bytes())
