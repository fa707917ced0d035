"""Recommended defaults: where the best trials lie, which says more than where the one best does."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median, quantiles

from pydantic import JsonValue

from training_assets.sweeps.report.summary import Axis, Recommended, TrialRow
from training_assets.sweeps.report.values import key, number

BEST_SHARE = 3
"""One of so many trials is of the best region."""
LEAST = 3
EDGE = 0.05
"""Of the range searched: so near to its end the best region is at the edge."""


def recommended(
    rows: Sequence[TrialRow], axes: Sequence[Axis], winner: TrialRow | None, matters: Mapping[str, float]
) -> list[Recommended]:
    """Over the best third of the ranked trials (at least three) that broke no constraint; nothing with fewer."""
    able = [row for row in rows if row.rank is not None and row.feasible is not False]
    best = able[: max(LEAST, math.ceil(len(able) / BEST_SHARE))]
    return list(_of(best, axes, winner, matters)) if len(best) >= LEAST else []


def _of(
    best: Sequence[TrialRow], axes: Sequence[Axis], winner: TrialRow | None, matters: Mapping[str, float]
) -> Iterator[Recommended]:
    for axis in axes:
        told = Recommended(
            parameter=axis.name,
            recipe=axis.recipe,
            value=None,
            winner=None if winner is None else winner.params.get(axis.name),
            trials=len(best),
            matters=matters.get(axis.name),
        )
        yield told.model_copy(update=_choice(best, axis) if axis.scale == "choice" else _region(best, axis))


def _choice(best: Sequence[TrialRow], axis: Axis) -> dict[str, JsonValue]:
    """The commonest choice; of several equally common ones that of the better trial."""
    values = {key(row.params.get(axis.name)): row.params.get(axis.name) for row in best}
    counted = Counter(key(row.params.get(axis.name)) for row in best)
    commonest, count = counted.most_common(1)[0]
    return {"value": values[commonest], "share": count / len(best)}


def _region(best: Sequence[TrialRow], axis: Axis) -> dict[str, JsonValue]:
    places = sorted(place for row in best if (place := number(axis, row.params)) is not None)
    if len(places) < LEAST:
        return {}
    low, *_, high = quantiles(places, n=10, method="inclusive")
    middle = median(places)
    return {
        "value": _back(axis, middle, best),
        "low": _back(axis, low, best),
        "high": _back(axis, high, best),
        "at_edge": _edge(axis, middle),
    }


def _back(axis: Axis, place: float, best: Sequence[TrialRow]) -> float | int:
    """From the parameter's own scale; whole where the trials' values are."""
    value = 10**place if axis.scale == "log" else place
    whole = all(isinstance(row.params.get(axis.name), int) for row in best)
    return round(value) if whole else float(f"{value:.6g}")


def _edge(axis: Axis, place: float) -> str | None:
    if axis.low is None or axis.high is None or axis.high <= axis.low:
        return None
    low, high = (math.log10(axis.low), math.log10(axis.high)) if axis.scale == "log" else (axis.low, axis.high)
    share = (place - low) / (high - low)
    return "low" if share <= EDGE else "high" if share >= 1 - EDGE else None
