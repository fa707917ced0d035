"""Trainings at a sweep's end: launched like trials, within the same budget, and not again once they have ended well."""

import math
from dataclasses import dataclass, replace

from trainer.contract.names import derived_run_id, run_name
from trainer.contract.results import RESULT_FILE
from training_assets.finals.closing import Closing
from training_assets.finals.contenders import Contender
from training_assets.launchers.base import LaunchSpec
from training_assets.launchers.session import Observer, Spent, spent_by_now, spent_on
from training_assets.observability import Trip
from training_assets.recipes import overridden
from training_assets.records import TrainingSet
from training_assets.sweeps.budget import Ledger, Refusal, TrialCost
from training_assets.training_run import TrainingRun, training_run
from training_assets.warm_start import first_weights

BOOKED = -1
"""In the books, these trainings are no trials: they count down from here."""


class OutOfBudget(Exception):
    """The sweep's budget does not allow another training; says which cap."""


def prepared(closing: Closing, one: Contender, seed: int, data: TrainingSet, what: str) -> TrainingRun:
    """The trial's training once more, on ``data`` with ``seed``; ``what`` names the folder of its kind."""
    plan = closing.place.trial(one.id).plan
    assert plan is not None, "it was launched"
    settings = overridden(closing.place.recipe, (*plan.overrides, f"seed={seed}"))
    begun = closing.plan.started_at.isoformat()
    run_id = derived_run_id(closing.plan.tune, begun, one.id, seed, data.digest, what)
    name = run_name(one.name, 0, seed)
    directory = closing.directory(one.name) / what / f"{name}-{run_id}"
    weights = first_weights(closing.context, settings, closing.registry, directory, plan.weights)
    image = closing.profile.image.trainer if closing.profile.image else None
    tune = {"tune": closing.plan.tune, "cv": one.name}
    return training_run(settings, data, run_id, directory, closing.places, image=image, weights=weights, **tune)


def finish(closing: Closing, run: TrainingRun) -> None:
    """Train it, or go on with it, unless it has its result.

    Raises:
        OutOfBudget: it would take more than is left, or has taken that.
        dg.RetryRequested, dg.Failure: as a training does.
    """
    if (run.directory / RESULT_FILE).is_file():
        return
    books = _books(closing)
    share = run.training_set.samples / closing.plan.training_set.samples
    promised = books.reserve(BOOKED - len(books.costs), books.epochs - math.ceil(books.epochs * share))
    if isinstance(promised, Refusal):
        raise OutOfBudget(str(promised))
    run.finished(closing.context, closing.launcher, closing.profile, lambda inner, spec: _Cap(closing, spec, inner))


def _books(closing: Closing, under_way: Spent | None = None) -> Ledger:
    """The sweep's, with what these trainings took so far; how many there are is no matter any more."""
    ledger = closing.purse.ledger()
    spent = [spent_on(path) for path in (closing.place.root / "finals").glob("*/*/*") if (path / "attempts").is_dir()]
    spent += [] if under_way is None else [under_way]
    extra = [TrialCost(BOOKED - place, False, one.seconds, one.gpu_hours, one.usd) for place, one in enumerate(spent)]
    budget = ledger.budget.model_copy(update={"max_trials": None})
    return replace(ledger, budget=budget, costs=(*ledger.costs, *extra))


@dataclass(frozen=True)
class _Cap:
    """Ends a training when the sweep's budget is reached."""

    closing: Closing
    spec: LaunchSpec
    inner: Observer | None

    def poll(self, now: float, cost_usd: float | None, waiting: bool) -> Trip | None:
        own = spent_by_now(self.closing.launcher, self.spec, now)
        for excess in _books(self.closing, own).exceeded():
            raise OutOfBudget(str(excess))
        return None if self.inner is None else self.inner.poll(now, cost_usd, waiting)
