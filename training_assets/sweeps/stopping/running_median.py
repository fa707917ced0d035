"""Ends a trial whose best so far is below the median of the others' running averages.

The rule of Google Vizier (Golovin et al., 2017, 3.2.2) and of SageMaker's automatic model tuning.
"""

from collections.abc import Sequence
from statistics import fmean

from training_assets.sweeps.goals import Objective
from training_assets.sweeps.stopping.behind import BehindOthers, Lag, as_measured, side
from training_assets.sweeps.stopping.quantile import quantile_of
from training_assets.sweeps.stopping.standing import Standing, finite_score
from training_assets.sweeps.trials import Trial


class RunningMedian(BehindOthers):
    name = "running_median"

    def has(self, objective: Objective, trial: Trial, epoch: int) -> float | None:
        return max(scores_until(objective, trial, epoch), default=None)

    def shows(self, objective: Objective, trial: Trial, epoch: int) -> float | None:
        scores = scores_until(objective, trial, epoch)
        return fmean(scores) if scores else None

    def limit(self, others: Sequence[Standing]) -> Standing:
        return quantile_of(others, 0.5)

    def in_words(self, lag: Lag) -> str:
        own, limit = (as_measured(lag.objective, standing.value) for standing in (lag.own, lag.limit))
        what = f"the median of the running averages of {lag.peers} others"
        return f"the best {lag.objective.metric} is {own}, {side(lag.objective)} {limit}, {what}"


def scores_until(objective: Objective, trial: Trial, epoch: int) -> list[float]:
    """The finite ones, larger is better."""
    scores = (finite_score(trial, at, objective) for at in trial.curve if at <= epoch)
    return [score for score in scores if score is not None]
