"""Asynchronous successive halving: of the trials at a rung the best of every ``eta`` go on.

Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020; the variant that stops a trial where
it would pause there, as in Ray Tune and Optuna: nobody waits, and no checkpoint has to be gone back to.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from training_assets.sweeps.goals import Objective
from training_assets.sweeps.trials import CONTINUE, Decision, Trial, Trials


def rungs_of(first: int, eta: int, epochs: int) -> tuple[int, ...]:
    """The epochs before the last at which trials are compared: first, first × eta, …"""
    rungs = []
    while first < epochs:
        rungs.append(first)
        first *= eta
    return tuple(rungs)


@dataclass
class Asha:
    """Trials are compared by the best value that each had up to the rung, which is what it would be kept for.

    Where a rung's epoch was not evaluated, the first evaluation after it counts.
    """

    objective: Objective
    rungs: Sequence[int]
    eta: int
    _bests: dict[int, dict[int, float]] | None = field(default=None, repr=False)

    def decide(self, trial: Trial, epoch: int, trials: Trials) -> Decision:
        reached = self._reached(trial, epoch)
        if not reached:
            return CONTINUE
        bests = self._all_bests(trials)
        best = best_until(trial, epoch, self.objective)
        for rung in reached:
            bests[rung][trial.id] = best
        return self._compare(best, epoch, reached[-1], sorted(bests[reached[-1]].values(), reverse=True))

    def _compare(self, best: float, epoch: int, rung: int, values: Sequence[float]) -> Decision:
        places = max(1, len(values) // self.eta)
        threshold = values[places - 1]
        goes_on = best >= threshold
        reason = (
            f"{best:.4g} after epoch {epoch}: {'reaches' if goes_on else 'below'} {threshold:.4g}, "
            f"the best {places} of {len(values)} trials at rung {rung}"
        )
        return Decision("continue" if goes_on else "stop", reason, "asha", rung, threshold, len(values))

    def _reached(self, trial: Trial, epoch: int) -> list[int]:
        """The rungs that ``epoch`` is the first evaluation at or after."""
        if trial.finite(self.objective.metric, epoch) is None:
            return []
        evaluated = [one for one in trial.curve if one < epoch and trial.finite(self.objective.metric, one) is not None]
        return [rung for rung in self.rungs if max(evaluated, default=0) < rung <= epoch]

    def _all_bests(self, trials: Trials) -> dict[int, dict[int, float]]:
        """Of each rung the trials' bests; gathered from the record once, kept up from then on."""
        if self._bests is None:
            self._bests = {rung: {} for rung in self.rungs}
            for trial in trials:
                for epoch in trial.curve:
                    for rung in self._reached(trial, epoch):
                        self._bests[rung][trial.id] = best_until(trial, epoch, self.objective)
        return self._bests


def best_until(trial: Trial, epoch: int, objective: Objective) -> float:
    """The best score up to ``epoch``, larger is better."""
    scores = [objective.score(metrics) for one, metrics in trial.curve.items() if one <= epoch]
    return max(score for score in scores if math.isfinite(score))
