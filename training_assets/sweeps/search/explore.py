"""A step of population based training's explore: values near a parent's, never beyond what was declared."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from training_assets.sweeps.settings import Pbt
from training_assets.sweeps.space import Categorical, Distribution, Numeric, Space
from training_assets.sweeps.trials import Params, Value

if TYPE_CHECKING:
    import numpy as np


def explored(params: Params, space: Space, pbt: Pbt, rng: "np.random.Generator") -> dict[str, Value]:
    """Each value is drawn anew with probability ``pbt.resample``, else moved a little.

    A number is multiplied by one of ``pbt.factors`` and clipped to its bounds, one that counts in steps moves by a step
    at least; a categorical one becomes its neighbour in the declared order. A value that the parent does not have, or
    that its distribution does not know, is drawn anew.
    """
    return {one.name: _explored(params.get(one.name), one.distribution, pbt, rng) for one in space.parameters}


def _explored(value: Value, distribution: Distribution, pbt: Pbt, rng: "np.random.Generator") -> Value:
    anew, chance, side = rng.random(3)
    try:
        distribution.unit(value)
    except ValueError:
        chance = -1.0
    if chance < pbt.resample:
        return distribution.at(float(anew))
    for kind, moved in MOVES.items():
        if isinstance(distribution, kind):
            return moved(distribution, value, pbt, side < 0.5)
    return value


def _number(distribution: Numeric, value: Value, pbt: Pbt, first: bool) -> Value:
    assert isinstance(value, int | float)
    target = value * pbt.factors[0 if first else 1]
    low, high = distribution.bounds
    if not distribution.q:
        return min(max(target, low), high)
    if (moved := distribution.at(distribution.unit(target))) != value:
        return moved
    return distribution.at(distribution.unit(value + (distribution.q if target > value else -distribution.q)))


def _neighbour(distribution: Categorical, value: Value, pbt: Pbt, first: bool) -> Value:
    at, last = distribution.index(value), len(distribution.values) - 1
    neighbours = [place for place in (at - 1, at + 1) if 0 <= place <= last] or [at]
    return distribution.values[neighbours[0 if first else -1]]


MOVES: dict[type, Callable[..., Value]] = {Numeric: _number, Categorical: _neighbour}
