"""Ends a trial that no longer improves in anything."""

from collections.abc import Iterator

from trainer.contract.curves import Series, epochs_without_improvement
from training_assets.sweeps.goals import Goals
from training_assets.sweeps.stopping.standing import finite_score, violation_of
from training_assets.sweeps.trials import CONTINUE, Decision, Trial, Trials


class Plateau:
    """No objective rose above its best by more than ``min_delta`` for ``patience`` epochs.

    While constraints are broken, breaking them less is an improvement too.
    """

    name = "plateau"

    def __init__(self, goals: Goals, patience: int, min_delta: float) -> None:
        self.goals, self.patience, self.min_delta = goals, patience, min_delta

    def decide(self, trial: Trial, epoch: int, trials: Trials) -> Decision:
        waited = 0
        for series in self._series(trial, epoch):
            waited = epochs_without_improvement(series, self.min_delta)
            if waited < self.patience:
                return CONTINUE
        if not waited:
            return CONTINUE
        what = " and ".join(objective.metric for objective in self.goals.objectives)
        reason = (
            f"after epoch {epoch} {what} did not improve by more than {self.min_delta:g} for {self.patience} epochs"
        )
        return Decision("stop", reason, self.name, epoch)

    def _series(self, trial: Trial, epoch: int) -> Iterator[Series]:
        epochs = [at for at in trial.curve if at <= epoch]
        for objective in self.goals.objectives:
            scores = {at: finite_score(trial, at, objective) for at in epochs}
            if known := {at: score for at, score in scores.items() if score is not None}:
                yield known
        if self.goals.constraints:
            yield {at: -violation_of(self.goals.constraints, trial.curve[at]) for at in epochs}
