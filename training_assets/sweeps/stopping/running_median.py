"""Ends a trial whose best so far is below the median of the others' running averages.

The rule of Google Vizier (Golovin et al., 2017, 3.2.2) and of SageMaker's automatic model tuning.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from training_assets.sweeps.goals import Goals, Objective
from training_assets.sweeps.stopping.behind import BehindOthers, Lag, as_measured, side
from training_assets.sweeps.stopping.quantile import quantile_of
from training_assets.sweeps.stopping.standing import Standing, finite_score
from training_assets.sweeps.trials import Trial


class RunningMedian(BehindOthers):
    name = "running_median"

    def __init__(self, goals: Goals, after_epochs: int, min_trials: int) -> None:
        super().__init__(goals, after_epochs, min_trials)
        self._runs: dict[tuple[int, Objective], Running] = {}

    def has(self, objective: Objective, trial: Trial, epoch: int) -> float | None:
        run = self._until(objective, trial, epoch)
        return run.best if run.count else None

    def shows(self, objective: Objective, trial: Trial, epoch: int) -> float | None:
        run = self._until(objective, trial, epoch)
        return run.total / run.count if run.count else None

    def limit(self, others: Sequence[Standing]) -> Standing:
        return quantile_of(others, 0.5)

    def _until(self, objective: Objective, trial: Trial, epoch: int) -> "Running":
        run = self._runs.get((trial.id, objective))
        if run is None or run.trial is not trial or run.epoch > epoch:
            run = self._runs[trial.id, objective] = Running(objective, trial)
        return run.until(epoch)

    def in_words(self, lag: Lag) -> str:
        own, limit = (as_measured(lag.objective, standing.value) for standing in (lag.own, lag.limit))
        what = f"the median of the running averages of {lag.peers} others"
        return f"the best {lag.objective.metric} is {own}, {side(lag.objective)} {limit}, {what}"


@dataclass
class Running:
    """The scores of a trial before an epoch, read on from where they were read to."""

    objective: Objective
    trial: Trial
    epoch: int = 0
    total: float = 0.0
    count: int = 0
    best: float = -math.inf

    def until(self, epoch: int) -> "Running":
        """With the epoch's own, which are not kept: a trial's evaluation may change its last figures."""
        while self.epoch < epoch:
            self._add()
        with_own = replace(self)
        with_own._add()
        return with_own

    def _add(self) -> None:
        score = finite_score(self.trial, self.epoch, self.objective)
        if score is not None:
            self.total, self.count, self.best = self.total + score, self.count + 1, max(self.best, score)
        self.epoch += 1
