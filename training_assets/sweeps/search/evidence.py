"""What a sweep's trials have shown so far, as arrays: where, after how many epochs, how good."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from training_assets.sweeps.goals import Constraint, Objective
from training_assets.sweeps.search.composed import NOT_FINITE
from training_assets.sweeps.search.cube import Cube
from training_assets.sweeps.search.gaussian_process import Array
from training_assets.sweeps.trials import Trial, Trials


@dataclass(frozen=True)
class Evidence:
    """``points`` (trials × parameters), ``bests`` (trials × rungs, NaN where not reached), larger is better."""

    points: Array
    bests: Array
    violations: Array
    """trials × constraints, NaN where not known; 0 or less is kept."""
    epochs: Array
    """Of each trial the last that is known of."""
    running: Array


class Gatherer:
    """Trials to evidence. What has ended does not change: it is read once."""

    def __init__(
        self, cube: Cube, objective: Objective, constraints: Sequence[Constraint], rungs: Sequence[int]
    ) -> None:
        """``rungs``: the last is the whole training."""
        self.cube, self.objective, self.constraints, self.rungs = cube, objective, constraints, rungs
        self._rows: dict[int, tuple[tuple[str, int], list[float]]] = {}
        self._points: dict[int, list[float]] = {}

    def gather(self, trials: Trials) -> Evidence:
        rows = np.array([self._row(trial) for trial in trials])
        parts = np.split(rows, np.cumsum([len(self.cube), len(self.rungs), len(self.constraints), 1]), axis=1)
        points, bests, violations, epochs, running = parts
        return Evidence(points, bests, violations, epochs[:, 0], running[:, 0] > 0)

    def _row(self, trial: Trial) -> list[float]:
        version = (trial.state, len(trial.curve))
        if trial.id not in self._rows or self._rows[trial.id][0] != version:
            self._rows[trial.id] = (version, self._read(trial))
        return self._rows[trial.id][1]

    def _read(self, trial: Trial) -> list[float]:
        if trial.id not in self._points:
            self._points[trial.id] = self.cube.reduced(self.cube.space.units(trial.params))
        running = float(trial.state == "running" and not any(one.verdict == "stop" for one in trial.decisions.values()))
        return [*self._points[trial.id], *self._bests(trial), *self._violations(trial), float(trial.epoch), running]

    def _bests(self, trial: Trial) -> list[float]:
        """The best up to each rung; where its epoch was not evaluated, up to the next that was.

        A trial that diverged before the first is below all others there.
        """
        bests, reached, best = [math.nan] * len(self.rungs), 0, -math.inf
        for epoch in sorted(trial.curve):
            score = self.objective.score(trial.curve[epoch])
            if math.isfinite(score):
                best = max(best, score)
                while reached < len(self.rungs) and epoch >= self.rungs[reached]:
                    bests[reached] = best
                    reached += 1
        if trial.state == "completed" and math.isfinite(best):
            bests[-1] = best
        if math.isnan(bests[0]) and any(one.rule == NOT_FINITE for one in trial.decisions.values()):
            bests[0] = -math.inf
        return bests

    def _violations(self, trial: Trial) -> list[float]:
        """After the last epoch that each constraint's metric is known of."""
        found = [math.nan] * len(self.constraints)
        for place, constraint in enumerate(self.constraints):
            for epoch in sorted(trial.curve, reverse=True):
                if math.isfinite(violation := constraint.violation(trial.curve[epoch])):
                    found[place] = violation
                    break
        return found


def lifted(bests: Array) -> Array:
    """Values at rungs, lifted by what trials that went on gained from there to the end (median of each rung's step).

    Those that went on are the better ones: a mean over all at each rung would take their choice for a gain.
    """
    gains = np.zeros(bests.shape[1])
    for rung in range(bests.shape[1] - 2, -1, -1):
        steps = bests[:, rung + 1] - bests[:, rung]
        steps = steps[np.isfinite(steps)]
        gains[rung] = gains[rung + 1] + (np.median(steps) if len(steps) else 0.0)
    return bests + gains


def ranked(values: Array) -> Array:
    """The normal scores of the values' ranks: outliers and scales do not matter."""
    return np.asarray(ndtri((rankdata(values) - 0.5) / len(values)))


def ranked_about_zero(values: Array) -> Array:
    """``ranked``, moved so that 0 stays 0: the border between kept and broken is where it was."""
    border = np.clip(np.mean(values <= 0), 0.5 / len(values), 1 - 0.5 / len(values))
    return ranked(values) - float(ndtri(border))
