"""The best few once more, with other seeds on a small part of the data: is the order theirs, or that of chance?

What it is decided by is trained here; how it is decided is in ``sweeps/stability.py``. The sweep's budget holds: what
it does not allow is not trained.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field, replace

import dagster as dg

from trainer.contract.cross_validation import seeds
from trainer.contract.files import digest_of
from trainer.contract.names import run_name
from trainer.contract.results import RESULT_FILE, TrainResult
from training_assets.finals.closing import Closing
from training_assets.finals.contenders import Contender
from training_assets.finals.subset import small_training_set
from training_assets.launchers.base import LaunchSpec
from training_assets.launchers.session import HANDLE_FILE, Observer, Spent, spent_on
from training_assets.observability import Trip
from training_assets.recipes import overridden
from training_assets.records import TrainingSet
from training_assets.sweeps.budget import Ledger, Refusal, TrialCost
from training_assets.sweeps.goals import Objective
from training_assets.sweeps.metric_names import is_cost
from training_assets.sweeps.settings import Stability
from training_assets.sweeps.under_way import BASE36
from training_assets.training_run import TrainingRun, training_run

BOOKED = -1
"""In the books, trainings with other seeds are no trials: they count down from here."""


class OutOfBudget(Exception):
    """The sweep's budget does not allow another training; says which cap."""


NOTHING = Objective("")


@dataclass(frozen=True)
class Retrained:
    """``objective`` of each trial (by its number), a value for each of ``seeds``; NaN where that training failed.

    ``data`` says what they were trained on, ``why_not`` why not all of it was trained.
    """

    objective: Objective = NOTHING
    seeds: tuple[int, ...] = ()
    values: dict[int, tuple[float, ...]] = field(default_factory=dict)
    data: str = ""
    why_not: str = ""


def retrained(closing: Closing, best: list[Contender], asked: Stability) -> Retrained:
    """``best`` trained with each seed; what ended well before is not trained again.

    Raises:
        dg.RetryRequested: a training was lost in a way that another try may mend.
    """
    objective = next((one for one in closing.sweep.goals.objectives if not is_cost(one.metric)), None)
    if objective is None:
        return Retrained(why_not="no objective is one that a training ends with, so no seed changes it")
    work = _Seeds(closing, small_data(closing, asked), objective)
    data = f"{work.data.samples} of {closing.plan.training_set.samples} samples"
    found = Retrained(objective, seeds(asked.seeds), data=data)
    try:
        for one in best:
            found.values[one.id] = tuple(work.value(one, seed) for seed in found.seeds)
    except OutOfBudget as out:
        return replace(found, why_not=f"the budget does not allow it: {out}")
    return found


def small_data(closing: Closing, asked: Stability) -> TrainingSet:
    directory = closing.directory("small_training_set")
    size = closing.recipe.data.batch_size
    return small_training_set(closing.plan.training_set, asked, size, closing.places, directory)


@dataclass(frozen=True)
class _Seeds:
    closing: Closing
    data: TrainingSet
    objective: Objective

    def value(self, one: Contender, seed: int) -> float:
        """The objective at the best checkpoint; NaN where the training failed as it would fail again."""
        run = self._run(one, seed)
        if not (run.directory / RESULT_FILE).is_file():
            try:
                self._trained(run)
            except dg.Failure as failure:
                self.closing.context.log.warning(f"{one.name} with seed {seed} has no value: {failure.description}")
                return math.nan
        result = TrainResult.model_validate_json((run.directory / RESULT_FILE).read_bytes())
        value = result.best_metrics.get(self.objective.metric)
        return math.nan if value is None else value

    def _run(self, one: Contender, seed: int) -> TrainingRun:
        closing, plan = self.closing, self.closing.place.trial(one.id).plan
        assert plan is not None, "it was launched"
        settings = overridden(closing.place.recipe, (*plan.overrides, f"seed={seed}"))
        identity = [closing.plan.tune, closing.plan.started_at.isoformat(), one.id, seed, self.data.digest]
        name, run_id = run_name(one.name, 0, seed), _run_id(digest_of(identity))
        weights = () if plan.weights is None else ("--warm-start", plan.weights)
        directory = closing.directory(one.name) / "seeds" / f"{name}-{run_id}"
        image = closing.profile.image.trainer if closing.profile.image else None
        return training_run(
            settings, self.data, run_id, directory, closing.places, image=image, weights=weights
        )  # fmt: skip

    def _trained(self, run: TrainingRun) -> None:
        closing, books = self.closing, self._books()
        share = self.data.samples / closing.plan.training_set.samples
        refusal = books.reserve(BOOKED - len(books.costs), books.epochs - math.ceil(books.epochs * share))
        if isinstance(refusal, Refusal):
            raise OutOfBudget(str(refusal))
        run.finished(
            closing.context, closing.launcher, closing.profile, lambda inner, spec: _Cap(self, spec, inner)
        )  # fmt: skip

    def _books(self, under_way: Spent | None = None) -> Ledger:
        """The sweep's, with what was spent on seeds so far; trials are no longer counted."""
        ledger = self.closing.purse.ledger()
        spent = [spent_on(path) for path in self.closing.directory("").glob("*/seeds/*")]
        spent += [] if under_way is None else [under_way]
        extra = [
            TrialCost(BOOKED - place, False, one.seconds, one.gpu_hours, one.usd) for place, one in enumerate(spent)
        ]
        budget = ledger.budget.model_copy(update={"max_trials": None})
        return replace(ledger, budget=budget, costs=(*ledger.costs, *extra))

    def refuse_excess(self, under_way: Spent) -> None:
        """
        Raises:
            OutOfBudget: a cap is reached.
        """
        for excess in self._books(under_way).exceeded():
            raise OutOfBudget(str(excess))


@dataclass(frozen=True)
class _Cap:
    """Ends a training when the sweep's budget is reached."""

    work: _Seeds
    spec: LaunchSpec
    inner: Observer | None

    def poll(self, now: float, cost_usd: float | None, waiting: bool) -> Trip | None:
        started = json.loads((self.spec.attempt_dir / HANDLE_FILE).read_bytes())["started_at"]
        estimate, seconds = self.work.closing.launcher.estimate(self.spec), now - started
        own = Spent(seconds * estimate.nodes, estimate.gpu_hours(seconds), estimate.cost(seconds))
        self.work.refuse_excess(own)
        return None if self.inner is None else self.inner.poll(now, cost_usd, waiting)


def _run_id(digest: str) -> str:
    number = int.from_bytes(hashlib.sha256(digest.encode()).digest()[:8], "big")
    return "".join(BASE36[number // 36**place % 36] for place in range(8))
