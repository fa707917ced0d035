"""Rungs of successive halving, and what a trial has at one."""

import math

from training_assets.sweeps.goals import Objective
from training_assets.sweeps.trials import Trial


def rungs_of(first: int, eta: int, epochs: int) -> tuple[int, ...]:
    """The epochs before the last at which trials are compared: first, first × eta, …"""
    rungs = []
    while first < epochs:
        rungs.append(first)
        first *= eta
    return tuple(rungs)


def best_until(trial: Trial, epoch: int, objective: Objective) -> float:
    """The best score up to ``epoch``, larger is better."""
    scores = [objective.score(metrics) for one, metrics in trial.curve.items() if one <= epoch]
    return max(score for score in scores if math.isfinite(score))
