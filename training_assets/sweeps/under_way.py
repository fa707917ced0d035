"""A sweep that is under way: its controller over its journal, and its trials' plans and stop requests.

The sensor and the command line both go through here; what differs is how a trial is started and seen.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer.contract.epochs import read_epochs
from trainer.contract.names import cross_validation_name, derived_run_id, run_name
from trainer.contract.train_config import TrainConfig
from training_assets.launchers.base import Launcher, LaunchSpec
from training_assets.places import Places
from training_assets.sweeps.controller import Actions, Controller
from training_assets.sweeps.fitting import baseline
from training_assets.sweeps.journal import Journal, journal_of
from training_assets.sweeps.parameters import overrides
from training_assets.sweeps.place import StopRequest, SweepPlace, SweepPlan, TrialPlan
from training_assets.sweeps.purse import SweepPurse
from training_assets.sweeps.search import search_of
from training_assets.sweeps.search.base import Search
from training_assets.sweeps.sweep_file import Settled
from training_assets.sweeps.trials import Params, Trial, Trials


@dataclass(frozen=True)
class Sweeping:
    """One look's worth of a sweep. Nobody else writes to its journal meanwhile."""

    place: SweepPlace
    places: Places
    plan: SweepPlan
    sweep: Settled
    recipe: TrainConfig
    journal: Journal
    purse: SweepPurse
    controller: Controller

    @property
    def running(self) -> list[Trial]:
        return [trial for trial in self.journal if trial.state == "running"]

    def epochs_of(self, trial: Trial) -> Mapping[int, Mapping[str, float]]:
        """What the trial's training says of its epochs so far, counted as the search counts them."""
        plan = self.place.trial(trial.id).plan
        if plan is None:
            return {}
        epochs = read_epochs(run_directory(self.places, self.place, plan))
        known = {one.epoch + 1: {name: value for name, value in one.metrics.items() if value is not None}
                 for one in epochs}  # fmt: skip
        return {trial.suggestion.epoch + epoch: metrics for epoch, metrics in known.items() if metrics}

    def prepare(self, actions: Actions) -> None:
        """Write down what the trials that are to run are to do, and which are to end; before anything is started."""
        for number in actions.run:
            self.place.trial(number).go_on()
            self.place.trial(number).keep(self._plan_of(self.journal[number]))
        for number, ending in actions.stop.items():
            self.place.trial(number).keep(StopRequest(reason=ending.reason, pause=ending.verdict == "pause"))

    def _plan_of(self, trial: Trial) -> TrialPlan:
        suggestion = trial.suggestion
        length = self.sweep.epochs - suggestion.epoch
        settings = {"training.eval_every": 1, **suggestion.params, "training.epochs": length}
        cv = cross_validation_name(self.place.tune, trial.id)
        return TrialPlan(
            trial=trial.id,
            run_name=run_name(cv, 0, self.recipe.seed),
            run_id=derived_run_id(self.plan.tune, self.plan.started_at.isoformat(), trial.id),
            params=dict(suggestion.params),
            overrides=tuple(overrides(settings)),
            parent=suggestion.parent,
            epoch=suggestion.epoch,
            weights=None if suggestion.parent is None else str(self._weights(suggestion.parent)),
        )

    def _weights(self, parent: int) -> Path:
        plan = self.place.trial(parent).plan
        assert plan is not None, "a parent was launched before"
        return run_directory(self.places, self.place, plan) / "best.pt"


@contextlib.contextmanager
def sweeping(place: SweepPlace, places: Places, launcher: Launcher) -> Iterator[Sweeping]:
    """The sweep, for this process alone to go on with.

    Raises:
        Busy: another process is at it.
        ContractError: its files cannot be read.
    """
    plan, sweep, recipe = place.plan, place.sweep, place.recipe
    with journal_of(place.root) as journal:
        search = search_for(sweep, journal)
        purse = purse_of(place, journal, launcher)
        controller = Controller(search, purse, sweep.budget.parallelism, time.time, baseline_of(sweep, recipe))
        yield Sweeping(place, places, plan, sweep, recipe, journal, purse, controller)


def baseline_of(sweep: Settled, recipe: TrainConfig) -> Params | None:
    """The recipe's own values of what is searched, where they are to be tried and lie in the space.

    A grid has all of its points tried anyway.
    """
    own = baseline(sweep, recipe)
    try:
        sweep.space.units(own)
    except ValueError:
        return None
    return own if sweep.baseline == "include" and sweep.strategy.name != "grid" else None


def search_for(sweep: Settled, trials: Trials) -> Search:
    """The search that the sweep asks for, as it stands after ``trials``."""
    return search_of(
        sweep.space, sweep.goals, sweep.strategy, sweep.early_stop, sweep.pbt, sweep.epochs, trials, time.time
    )


def purse_of(place: SweepPlace, trials: Trials, launcher: Launcher, ahead: float = 0.0) -> SweepPurse:
    """The budget of the sweep, by what one of its trials costs on ``launcher``."""
    launch = place.recipe.launch
    estimate = launcher.estimate(LaunchSpec((), place.root, "estimate", launch=launch))
    started_at = place.plan.started_at.timestamp()
    return SweepPurse(place, place.sweep, trials, estimate, started_at, time.time, launch.max_run_seconds, ahead)


def run_directory(places: Places, place: SweepPlace, plan: TrialPlan) -> Path:
    return places.trial_run(place.tune, cross_validation_name(place.tune, plan.trial), plan.run_name, plan.run_id)
