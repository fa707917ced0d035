"""How trials stand against each other: a feasible one above any infeasible one, then by objectives."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from training_assets.sweeps.goals import Constraint, Goals, Objective
from training_assets.sweeps.trials import Trial

Rank = tuple[int, float, float]
"""Infeasible or not, the violation or the front, and minus the score or the crowding distance."""


class Standing(NamedTuple):
    """In one objective. Larger is better, and whoever keeps the constraints is above whoever does not (Deb, 2000).

    ``value`` is the score; of an infeasible trial minus its violation.
    """

    feasible: bool
    value: float

    @classmethod
    def of(cls, score: float, violation: float) -> "Standing":
        return cls(False, -violation) if violation > 0 else cls(True, score)


@dataclass(frozen=True)
class Place:
    """In all objectives: the scores, larger is better, and by how much constraints are broken."""

    scores: tuple[float, ...]
    violation: float = 0.0


def violation_of(constraints: Sequence[Constraint], metrics: dict[str, float]) -> float:
    """What is broken, each as a share of its bound, added up. What is not known, as latency early on, is not broken."""
    if not constraints:
        return 0.0
    found = ((constraint.violation(metrics), abs(constraint.bound) or 1.0) for constraint in constraints)
    return sum(violation / bound for violation, bound in found if violation > 0)


def place_of(
    trial: Trial, epoch: int, objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> Place | None:
    """None where an objective is not a finite number after that epoch."""
    scores = tuple(finite_score(trial, epoch, objective) for objective in objectives)
    known = tuple(score for score in scores if score is not None)
    if len(known) < len(scores):
        return None
    return Place(known, violation_of(constraints, trial.curve[epoch]))


def finite_score(trial: Trial, epoch: int, objective: Objective) -> float | None:
    """Larger is better; None where there is no finite number."""
    value = trial.finite(objective.metric, epoch)
    return value if value is None or objective.direction == "maximize" else -value


def objectives_known(trial: Trial, epoch: int, goals: Goals) -> tuple[Objective, ...]:
    return tuple(one for one in goals.objectives if trial.finite(one.metric, epoch) is not None)


def ahead_of(own: Place, peers: Sequence[Place]) -> int:
    """How many of ``peers`` rank before ``own``, by ``ranks_of``; equal ones do not."""
    if len(own.scores) > 1 and not own.violation > 0:
        ranks = ranks_of([own, *peers])
        return sum(rank < ranks[0] for rank in ranks[1:])
    mine = _rank_of_one(own)
    return sum(_rank_of_one(peer) < mine for peer in peers)


def ranks_of(places: Sequence[Place]) -> list[Rank]:
    """What to sort places by, the best first.

    Feasible before infeasible, which go by their violation (constrained domination: Deb et al., NSGA-II, 2002). With
    one objective the better score; with several the front of the non-dominated sorting and within a front the larger
    crowding distance, by which NSGA-II selects and Schmucker et al. (Multi-objective asynchronous successive halving,
    2021) select at a rung.
    """
    feasible = [place.scores for place in places if not place.violation > 0]
    if not feasible or len(feasible[0]) == 1:
        return [_rank_of_one(place) for place in places]
    by_fronts = iter(_ranks_by_fronts(feasible))
    return [_rank_of_one(place) if place.violation > 0 else next(by_fronts) for place in places]


def _rank_of_one(place: Place) -> Rank:
    return (1, place.violation, 0.0) if place.violation > 0 else (0, 0.0, -place.scores[0])


def _ranks_by_fronts(points: Sequence[tuple[float, ...]]) -> list[Rank]:
    import numpy as np

    weakly = np.ones((len(points), len(points)), dtype=bool)
    for scores in np.asarray(points).T:
        weakly &= scores[:, None] >= scores[None, :]
    dominates = weakly & ~weakly.T
    dominators, ranks = dominates.sum(axis=0), [(0, 0.0, 0.0)] * len(points)
    for front in range(len(points)):
        members = np.flatnonzero(dominators == 0).tolist()
        distances = crowding_distances({points[member] for member in members})
        for member in members:
            ranks[member] = (0, float(front), -distances[points[member]])
        dominators = dominators - dominates[members].sum(axis=0)
        dominators[members] = -1
        if (dominators < 0).all():
            break
    return ranks


def crowding_distances(front: Collection[tuple[float, ...]]) -> dict[tuple[float, ...], float]:
    """Of each point of a front, by NSGA-II (Deb et al., 2002, III-B): the ends of each objective are infinitely far."""
    distances = dict.fromkeys(front, 0.0)
    for axis in range(len(next(iter(front)))):
        order = sorted(front, key=lambda point: point[axis])
        width = order[-1][axis] - order[0][axis]
        if not width:
            continue
        distances[order[0]] = distances[order[-1]] = math.inf
        for before, point, after in zip(order, order[1:], order[2:], strict=False):
            distances[point] += (after[axis] - before[axis]) / width
    return distances
