"""In which order the best may win: that of the leaderboard, or where other seeds were asked, that of their means."""

import math
from dataclasses import dataclass, field
from statistics import fmean

from training_assets.finals.closing import Closing
from training_assets.finals.contenders import Contender
from training_assets.finals.seeds import Retrained, retrained
from training_assets.sweeps.settings import Stability
from training_assets.sweeps.stability import stability


@dataclass(frozen=True)
class Order:
    """``best`` first. Where other seeds were asked, ``said`` is what they say of it, and ``seeds`` their figures."""

    best: list[Contender] = field(default_factory=list)
    said: str = ""
    seeds: Retrained = field(default_factory=Retrained)


def ordered(closing: Closing, able: list[Contender]) -> Order:
    """``able`` are those that may win, as the leaderboard has them.

    Raises:
        dg.RetryRequested: as ``retrained`` does.
    """
    asked = closing.sweep.stability
    few = [] if asked is None else able[: asked.best]
    if asked is None or len(few) < 2:
        return Order(able, "" if asked is None else "not asked: there are no two trials to compare")
    return _by_seeds(able, retrained(closing, few, asked), asked)


def _by_seeds(able: list[Contender], found: Retrained, asked: Stability) -> Order:
    sign = 1.0 if found.objective.direction == "maximize" else -1.0
    scores = {trial: [sign * value for value in values] for trial, values in found.values.items()}
    if found.why_not:
        return Order(able, f"not decided: {found.why_not}", found)
    if not any(map(_sound, scores.values())):
        return Order(able, "not decided: no trial has a value with every seed", found)
    told = stability(scores, min_effect=asked.min_effect).sentence.removesuffix(".")
    means = {trial: fmean(values) if _sound(values) else -math.inf for trial, values in scores.items()}
    again = sorted((one for one in able if one.id in means), key=lambda one: -means[one.id])
    said = f"{told} ({found.objective.metric}, {found.data})"
    return Order([*again, *(one for one in able if one.id not in means)], said, found)


def _sound(values: list[float]) -> bool:
    return all(map(math.isfinite, values))
