"""What figures are drawn with: scales, axes with round ticks, and marks that belong to a trial."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from training_assets.sweeps.goals import Objective
from training_assets.sweeps.report.summary import SweepSummary, TrialRow
from training_assets.sweeps.report.values import shown

TONES = 5
"""Classes ``q0`` (worst) to ``q4`` (best)."""
MANY = 120
NICE = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """From values to pixels; ``log``: the values are logarithms to base 10, and their ticks are written as powers."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(
        cls, values: Iterable[float], start: float, end: float, *, log: bool = False, room: float = 0.04
    ) -> "Scale":
        """All of ``values``, and a little room on both sides."""
        found = list(values) or [0.0, 1.0]
        low, high = min(found), max(found)
        spare = (high - low) * room or abs(high) * 0.1 or 0.5
        return cls(low - spare, high + spare, start, end, log)

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """Round values within, and how they are written."""
        if self.log and self.high - self.low >= 1:
            return [(float(power), f"1e{power}") for power in range(math.ceil(self.low), math.floor(self.high) + 1)]
        step = _nice((self.high - self.low) / most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        places = [round(place * step, 12) for place in range(first, last + 1)]
        return [(place, f"{10**place:.3g}" if self.log else f"{place:.6g}") for place in places]


def _nice(step: float) -> float:
    """The smallest round number that is not below ``step``."""
    power = 10 ** math.floor(math.log10(step)) if step > 0 else 1.0
    return next((nice * power for nice in NICE if nice * power >= step * (1 - 1e-9)), 10 * power)


def svg(label: str, width: float, height: float, parts: Iterable[str], name: str = "") -> str:
    """``name`` is the class by which the script finds it."""
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    return (
        f'<svg class="{f"figure {name}".strip()}" {size} role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def line(x1: float, y1: float, x2: float, y2: float, name: str = "grid") -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, words: str, anchor: str = "start", name: str = "label") -> str:
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def sideways(x: float, y: float, words: str) -> str:
    turned = f"translate({x:.1f} {y:.1f}) rotate(-90)"
    return f'<text class="label" text-anchor="middle" transform="{turned}">{escape(words)}</text>'


def path(points: Iterable[tuple[float, float]]) -> str:
    """The ``d`` of a line through ``points``."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def axes(x: Scale, y: Scale, across: str, up: str, ticks: Literal["all", "whole", "none"] = "all") -> Iterator[str]:
    """Grid, ticks and names; ``ticks`` are those of x: all, those at whole numbers, or none."""
    for place, words in x.ticks() if ticks != "none" else []:
        if ticks == "all" or place.is_integer():
            yield line(x(place), y.start, x(place), y.end)
            yield text(x(place), y.start + 16, words, "middle", "tick")
    for place, words in y.ticks():
        yield line(x.start, y(place), x.end, y(place))
        yield text(x.start - 6, y(place) + 4, words, "end", "tick")
    yield text((x.start + x.end) / 2, y.start + 34, across, "middle")
    yield sideways(14, (y.start + y.end) / 2, up)


def of_trial(row: TrialRow, tones: dict[int, str], mark: str, words: str = "") -> str:
    """``mark`` (elements) as this trial's: lit up with all else of it, ``words`` are shown beside the pointer."""
    told = f"<title>{escape(words)}</title>" if words else ""
    return f'<g class="trial {tones.get(row.id, "q0")} {row.state}" data-trial="{row.id}">{told}{mark}</g>'


def dense(rows: Sequence[TrialRow]) -> str:
    """The class of figures with so many lines that they would hide each other."""
    return " dense" if len(rows) > MANY else ""


def tones_of(summary: SweepSummary) -> dict[int, str]:
    """A class for each trial by how good it is: evenly by rank, so that one outlier does not grey all others."""
    ranked = [row for row in summary.trials if row.rank is not None]
    ordered = sorted(ranked, key=lambda row: _score(summary.objectives[0], row))
    tones = {row.id: f"q{place * TONES // len(ordered)}" for place, row in enumerate(ordered)}
    if summary.outcome.winner is not None:
        tones[summary.outcome.winner] = "winner"
    return tones


def _score(objective: Objective, row: TrialRow) -> float:
    return objective.score(row.objectives)


def about(row: TrialRow, names: Sequence[str]) -> str:
    """What is said of a trial beside the pointer."""
    scores = [f"{name} {shown(row.objectives.get(name))}" for name in names]
    params = [f"{name} {shown(value)}" for name, value in row.params.items()]
    rank = [] if row.rank is None else [f"rank {row.rank}"]
    copied = [] if row.parent is None else [f"began with the weights of trial {row.parent}"]
    return "\n".join([f"{row.name}: {', '.join([row.state, *rank])}", *scores, *params, *copied, *ended(row)])


def ended(row: TrialRow) -> list[str]:
    """Why a trial did not run to its end."""
    if row.state == "failed":
        return [f"failed: {row.error or 'no word of why'}"]
    last = next((one for one in reversed(row.decisions) if one.verdict != "continue"), None)
    if row.state == "completed" or last is None:
        return []
    threshold = "" if last.threshold is None else f" (threshold {shown(last.threshold)}, {last.peers} peers)"
    return [
        f"{row.state} after epoch {last.epoch} by {last.rule or 'a rule'}: {last.reason or last.verdict}{threshold}"
    ]
