"""Where the next trial is expected to improve most: the model behind ``bayes.py``."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import ndtr
from threadpoolctl import threadpool_limits

from training_assets.sweeps.goals import Goals
from training_assets.sweeps.search.cube import Cube
from training_assets.sweeps.search.evidence import Evidence, Gatherer, lifted, ranked, ranked_about_zero
from training_assets.sweeps.search.gaussian_process import Array, GaussianProcess, learned
from training_assets.sweeps.space import Space
from training_assets.sweeps.trials import Trials

REMEMBERED = 200
"""Values that the model is given: half of them the best, the others drawn."""
ANYWHERE, NEARBY, ROUNDS = 150, 80, 3
"""Candidates drawn from the whole space, and near the best ones in each round of a local search."""
BEST = 5
"""So many of the best points have their neighbourhood searched."""

Score = Callable[[Array], Array]


class Suggester:
    def __init__(self, space: Space, goals: Goals, rungs: Sequence[int]) -> None:
        self.cube, self.rungs = Cube(space), rungs
        self.gatherer = Gatherer(self.cube, goals.first, goals.constraints, rungs)
        self.groups = np.append(self.cube.groups, len(self.cube))

    def suggest(self, trials: Trials, rng: np.random.Generator) -> list[float]:
        # On matrices this small the threads of BLAS wait for each other: six times as long with two of them.
        with threadpool_limits(1, "blas"):
            return self._suggested(trials, rng)

    def _suggested(self, trials: Trials, rng: np.random.Generator) -> list[float]:
        evidence = self.gatherer.gather(trials)
        model = self._model(evidence, rng)
        feasibility = _product(self._feasibility(evidence, rng))
        seen = ~np.isnan(evidence.bests[:, 0])
        at_end = model.mean(self._at_end(evidence.points[seen]))
        kept = ~(evidence.violations[seen] > 0).any(axis=1)
        if not kept.any():
            return self._best(feasibility, feasibility(evidence.points[seen]), evidence, rng)
        improvement = expected_improvement(model, float(at_end[kept].max()), self._at_end)
        return self._best(_product([improvement, feasibility]), np.where(kept, at_end, -np.inf), evidence, rng)

    def _model(self, evidence: Evidence, rng: np.random.Generator) -> GaussianProcess:
        """Of ranks after a whole training; trials that have no value yet are believed to get what it says of them."""
        points, epochs, values = self._observations(evidence, rng)
        model = learned(self._inputs(points, epochs), ranked(values), self.groups, rng)
        waiting = evidence.running & np.isnan(evidence.bests[:, 0])
        return model.believing(self._inputs(evidence.points[waiting], self.rungs[0]))

    def _observations(self, evidence: Evidence, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Points, epochs and values of all that reached a rung; of many the best half and some others."""
        values = lifted(evidence.bests)
        trial, rung = np.nonzero(~np.isnan(values))
        values = values[trial, rung]
        if len(values) > REMEMBERED:
            order = np.argsort(-values, kind="stable")
            half = REMEMBERED // 2
            kept = np.concatenate([order[:half], rng.choice(order[half:], half, replace=False)])
            trial, rung, values = trial[kept], rung[kept], values[kept]
        return evidence.points[trial], np.array(self.rungs)[rung], values

    def _inputs(self, points: Array, epochs: Array | float) -> Array:
        """Columns of the model: the encoded points, and the logarithm of the epochs, 1 for a whole training."""
        share = np.log(1 + np.broadcast_to(epochs, len(points))) / np.log(1 + self.rungs[-1])
        return np.column_stack([self.cube.encoded(points), share])

    def _at_end(self, points: Array) -> Array:
        return self._inputs(points, self.rungs[-1])

    def _feasibility(self, evidence: Evidence, rng: np.random.Generator) -> list[Score]:
        """Of each constraint that something is known of the probability that it is kept."""
        models = [self._violation_model(evidence, place, rng) for place in range(evidence.violations.shape[1])]
        return [self._kept(model) for model in models if model is not None]

    def _kept(self, model: GaussianProcess) -> Score:
        def probability(points: Array) -> Array:
            mean, deviation = model.mean_and_deviation(self._at_end(points))
            return np.asarray(ndtr(-mean / deviation))

        return probability

    def _violation_model(self, evidence: Evidence, place: int, rng: np.random.Generator) -> GaussianProcess | None:
        known = np.flatnonzero(np.isfinite(evidence.violations[:, place]))[-REMEMBERED:]
        if not len(known):
            return None
        targets = ranked_about_zero(evidence.violations[known, place])
        return learned(self._inputs(evidence.points[known], evidence.epochs[known]), targets, self.groups, rng)

    def _best(self, score: Score, merits: Array, evidence: Evidence, rng: np.random.Generator) -> list[float]:
        """The best of points anywhere and near those of most merit, after some rounds among neighbours of the best."""
        seen = evidence.points[~np.isnan(evidence.bests[:, 0])]
        start = seen[np.argsort(-merits, kind="stable")[:BEST]]
        points = np.vstack([self.cube.anywhere(ANYWHERE, rng), self.cube.near(start, NEARBY, rng)])
        for _ in range(ROUNDS):
            best = points[np.argsort(-score(points), kind="stable")[:BEST]]
            points = np.vstack([best, self.cube.near(best, NEARBY, rng)])
        new = points[~_among(points, evidence.points)]
        chosen = new[np.argmax(score(new))] if len(new) else self.cube.anywhere(1, rng)[0]
        return self.cube.full(chosen)


def _among(points: Array, tried: Array) -> Array:
    among: Array = (np.abs(points[:, None] - tried[None]) < 1e-9).all(2).any(1)
    return among


def _product(factors: Sequence[Score]) -> Score:
    return lambda points: np.asarray(np.prod([np.ones(len(points)), *(factor(points) for factor in factors)], axis=0))


def expected_improvement(model: GaussianProcess, best: float, inputs: Callable[[Array], Array]) -> Score:
    def score(points: Array) -> Array:
        mean, deviation = model.mean_and_deviation(inputs(points))
        lead = (mean - best) / deviation
        return np.asarray(deviation * (lead * ndtr(lead) + np.exp(-(lead**2) / 2) / np.sqrt(2 * np.pi)))

    return score
