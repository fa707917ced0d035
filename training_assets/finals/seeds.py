"""The best few once more, with other seeds on a small part of the data: is the order theirs, or that of chance?

What it is decided by is trained here; how it is decided is in ``sweeps/stability.py``. The sweep's budget holds: what
it does not allow is not trained.
"""

import math
from dataclasses import dataclass, field, replace

import dagster as dg

from trainer.contract.cross_validation import seeds
from trainer.contract.results import RESULT_FILE, TrainResult
from training_assets.finals.closing import Closing
from training_assets.finals.contenders import Contender
from training_assets.finals.subset import small_training_set
from training_assets.finals.trainings import OutOfBudget, finish, prepared
from training_assets.records import TrainingSet
from training_assets.sweeps.goals import Objective
from training_assets.sweeps.metric_names import is_cost
from training_assets.sweeps.settings import Stability

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
    data = small_data(closing, asked)
    size = f"{data.samples} of {closing.plan.training_set.samples} samples"
    found = Retrained(objective, seeds(asked.seeds), data=size)
    try:
        for one in best:
            found.values[one.id] = tuple(_value(closing, one, seed, data, objective.metric) for seed in found.seeds)
    except OutOfBudget as out:
        return replace(found, why_not=f"the budget does not allow it: {out}")
    return found


def small_data(closing: Closing, asked: Stability) -> TrainingSet:
    directory = closing.directory("small_training_set")
    size = closing.recipe.data.batch_size
    return small_training_set(closing.plan.training_set, asked, size, closing.places, directory)


def _value(closing: Closing, one: Contender, seed: int, data: TrainingSet, metric: str) -> float:
    """The metric at the best checkpoint; NaN where the training failed as it would fail again."""
    run = prepared(closing, one, seed, data, "seeds")
    try:
        finish(closing, run)
    except dg.Failure as failure:
        closing.context.log.warning(f"{one.name} with seed {seed} has no value: {failure.description}")
        return math.nan
    result = TrainResult.model_validate_json((run.directory / RESULT_FILE).read_bytes())
    value = result.best_metrics.get(metric)
    return math.nan if value is None else value
