"""The unit cube that a space is searched in: what a model is given of it, and candidates from it."""

import math
from itertools import pairwise

import numpy as np

from training_assets.sweeps.search.gaussian_process import Array
from training_assets.sweeps.space import Distribution, Space

MANY = 64
"""From so many values on a parameter counts as continuous."""
AT_BOUNDS = 0.15
"""Share of coordinates that are drawn at a bound: the best is often there, where a model is least sure."""
NEAR = (0.02, 0.05, 0.1, 0.25)
"""Standard deviations of the steps that neighbours are away."""


class Cube:
    """Parameters with more than one value; a point has one coordinate for each."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.searched = [place for place, one in enumerate(space.parameters) if one.distribution.size > 1]
        self.distributions = [space.parameters[place].distribution for place in self.searched]
        self.steps = [_coordinates(distribution) for distribution in self.distributions]
        self.ordered = [distribution.numeric or _rising(distribution) for distribution in self.distributions]
        widths = [1 if ordered else len(steps) for ordered, steps in zip(self.ordered, self.steps, strict=True)]
        self.groups = np.repeat(np.arange(len(widths)), widths)

    def __len__(self) -> int:
        return len(self.searched)

    def full(self, point: Array) -> list[float]:
        """With the coordinates of parameters that have one value."""
        units = [0.5] * len(self.space)
        for place, unit in zip(self.searched, point, strict=True):
            units[place] = float(unit)
        return units

    def reduced(self, units: list[float]) -> list[float]:
        return [units[place] for place in self.searched]

    def encoded(self, points: Array) -> Array:
        """Columns for a model: the coordinate, or for categories one column each, any two at a distance of 1."""
        columns = []
        for place, (ordered, steps) in enumerate(zip(self.ordered, self.steps, strict=True)):
            column = points[:, place : place + 1]
            columns.append(column if ordered else (np.abs(column - steps) < 1e-9) / math.sqrt(2))
        return np.hstack(columns)

    def anywhere(self, count: int, rng: np.random.Generator) -> Array:
        points = rng.random((count, len(self)))
        return self.snapped(np.where(rng.random(points.shape) < AT_BOUNDS, points.round(), points))

    def near(self, points: Array, count: int, rng: np.random.Generator) -> Array:
        """Neighbours of ``points``: some coordinates a step away, a category drawn anew."""
        chosen = points[rng.integers(len(points), size=count)]
        share = rng.choice([min(1.0, 1.5 / len(self)), 0.5], size=(count, 1))
        moved = rng.random(chosen.shape) < share
        steps = rng.choice(NEAR, size=(count, 1)) * rng.normal(size=chosen.shape)
        moved_to = np.clip(chosen + steps, 0, 1)
        jumps = [place for place, steps_of in enumerate(self.steps) if len(steps_of) and len(steps_of) <= 1 / max(NEAR)]
        jumps = sorted({*jumps, *(place for place, ordered in enumerate(self.ordered) if not ordered)})
        moved_to[:, jumps] = rng.random((count, len(jumps)))
        return self.snapped(np.where(moved, moved_to, chosen))

    def snapped(self, points: Array) -> Array:
        """On the coordinates that values have, where a parameter has few."""
        points = points.copy()
        for place, steps in enumerate(self.steps):
            if len(steps):
                middles = (steps[1:] + steps[:-1]) / 2
                points[:, place] = steps[np.searchsorted(middles, points[:, place])]
        return points


def _coordinates(distribution: Distribution) -> Array:
    """Of each value, in order; none where there are many."""
    if distribution.size > MANY and distribution.numeric:
        return np.array([])
    return np.array([distribution.unit(distribution.nth(place)) for place in range(int(distribution.size))])


def _rising(distribution: Distribution) -> bool:
    """Whether all values are numbers that rise, like batch sizes."""
    values = [distribution.nth(place) for place in range(int(distribution.size))]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return len(numbers) == len(values) and all(one < other for one, other in pairwise(numbers))
