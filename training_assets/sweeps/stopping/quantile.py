"""Ends a trial that is below a quantile of what the others had after the same epoch."""

from collections.abc import Sequence

from training_assets.sweeps.goals import Goals, Objective
from training_assets.sweeps.stopping.behind import BehindOthers, Lag, as_measured, side
from training_assets.sweeps.stopping.standing import Standing, finite_score
from training_assets.sweeps.trials import Trial


class Quantile(BehindOthers):
    name = "quantile"

    def __init__(self, goals: Goals, share: float, after_epochs: int, min_trials: int) -> None:
        super().__init__(goals, after_epochs, min_trials)
        self.share = share

    def has(self, objective: Objective, trial: Trial, epoch: int) -> float | None:
        return finite_score(trial, epoch, objective)

    shows = has

    def limit(self, others: Sequence[Standing]) -> Standing:
        return quantile_of(others, self.share)

    def in_words(self, lag: Lag) -> str:
        own, limit = (as_measured(lag.objective, standing.value) for standing in (lag.own, lag.limit))
        what = f"the {self.share:g} quantile of {lag.peers} others"
        return f"{lag.objective.metric} is {own}, {side(lag.objective)} {limit}, {what}"


def quantile_of(column: Sequence[Standing], share: float) -> Standing:
    """Of a sorted column, linear between neighbours (numpy's default, Hyndman and Fan's type 7).

    Between an infeasible and a feasible one there is nothing: it is the lower.
    """
    at = share * (len(column) - 1)
    low, high = column[int(at)], column[min(int(at) + 1, len(column) - 1)]
    if low.feasible != high.feasible:
        return low
    return Standing(low.feasible, low.value + (at - int(at)) * (high.value - low.value))
