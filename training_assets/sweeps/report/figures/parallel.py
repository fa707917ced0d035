"""Parallel coordinates: a line for each trial through its parameters to its objectives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from pydantic import JsonValue

from training_assets.sweeps.report.figures.svg import Scale, about, dense, line, of_trial, path, svg, text, tones_of
from training_assets.sweeps.report.summary import Axis, SweepSummary, TrialRow
from training_assets.sweeps.report.values import choices_of, key, number, shown

TOP, BOTTOM, SIDE, GAP, HEIGHT = 52, 30, 70, 130, 380
LEAST_WIDTH = 1180
LONGEST = 30


@dataclass(frozen=True)
class _Column:
    """One axis: where it stands, and the height of each value on it. What has no value is below it."""

    axis: Axis
    x: float
    scale: Scale
    choices: Sequence[JsonValue]
    objective: bool = False

    def height(self, row: TrialRow) -> float:
        values = dict(row.objectives) if self.objective else row.params
        return self.place(values.get(self.axis.name))

    def place(self, value: JsonValue) -> float:
        if self.axis.scale == "choice":
            keys = [key(one) for one in self.choices]
            return self.scale(keys.index(key(value))) if key(value) in keys else self.missing
        found = number(self.axis, {self.axis.name: value})
        return self.missing if found is None else self.scale(min(max(found, self.scale.low), self.scale.high))

    @property
    def missing(self) -> float:
        return self.scale.start + 16

    def ticks(self) -> list[tuple[float, str]]:
        if self.axis.scale == "choice":
            return [(self.scale(place), _short(shown(one))) for place, one in enumerate(self.choices)]
        return [(self.scale(place), words) for place, words in self.scale.ticks()]


def parallel_coordinates(summary: SweepSummary) -> str:
    """Empty where there are no parameters or no trial has a value."""
    rows = [row for row in reversed(summary.trials) if row.rank is not None]
    if not rows or not summary.parameters:
        return ""
    count = len(summary.parameters) + len(summary.objectives)
    width = max(LEAST_WIDTH, 2 * SIDE + GAP * (count - 1))
    gap = (width - 2 * SIDE) / (count - 1)
    columns = [_parameter(axis, SIDE + gap * place, summary) for place, axis in enumerate(summary.parameters)]
    for place, objective in enumerate(summary.objectives, start=len(columns)):
        columns.append(_objective(objective.metric, objective.direction == "minimize", SIDE + gap * place, rows))
    parts = [
        *_lines(summary, rows, columns),
        *(part for place, one in enumerate(columns) for part in _axis(place, one)),
    ]
    return svg("parallel coordinates", width, HEIGHT, parts, f"parallel{dense(rows)}")


def _parameter(axis: Axis, x: float, summary: SweepSummary) -> _Column:
    start, end = HEIGHT - BOTTOM, TOP
    if axis.scale == "choice":
        choices = choices_of(axis, [row.params.get(axis.name) for row in summary.trials if axis.name in row.params])
        return _Column(axis, x, Scale(-0.5, len(choices) - 0.5, start, end), choices)
    ends: list[JsonValue] = [one for one in (axis.low, axis.high, axis.recipe) if one is not None]
    known = [number(axis, {axis.name: one}) for one in ends] + [number(axis, row.params) for row in summary.trials]
    values = [one for one in known if one is not None]
    return _Column(axis, x, Scale.over(values, start, end, log=axis.scale == "log", room=0.0), ())


def _objective(name: str, smaller: bool, x: float, rows: Sequence[TrialRow]) -> _Column:
    """The better end is always above."""
    low, high = HEIGHT - BOTTOM, TOP
    values = [row.objectives[name] for row in rows if name in row.objectives]
    scale = Scale.over(values, *((high, low) if smaller else (low, high)), room=0.0)
    return _Column(Axis(name=name, scale="linear"), x, scale, (), objective=True)


def _lines(summary: SweepSummary, rows: Sequence[TrialRow], columns: Sequence[_Column]) -> Iterator[str]:
    tones, names = tones_of(summary), [one.metric for one in summary.objectives]
    for row in rows:
        points = [(one.x, one.height(row)) for one in columns]
        heights, drawn = " ".join(f"{y:.1f}" for _, y in points), path(points)
        mark = f'<path class="near" d="{drawn}"/><path class="curve" data-heights="{heights}" d="{drawn}"/>'
        yield of_trial(row, tones, mark, about(row, names))


def _axis(place: int, column: _Column) -> Iterator[str]:
    """The axis, the recipe's value on it, and what the script lets people draw a range on."""
    x, low, high = column.x, max(column.scale.start, column.scale.end), min(column.scale.start, column.scale.end)
    name = column.axis.name
    yield line(x, low, x, high, "axis")
    for y, words in column.ticks():
        yield line(x - 3, y, x + 3, y, "axis")
        yield text(x + 7, y + 4, words, name="tick halo")
    label = text(x, TOP - (30 if place % 2 else 14), _short(name), "middle", f"label{' strong' * column.objective}")
    yield f"<g><title>{escape(name)}</title>{label}</g>"
    if column.axis.recipe is not None and (y := column.place(column.axis.recipe)) != column.missing:
        said = escape(f"recipe: {shown(column.axis.recipe)}")
        yield f'<path class="recipe" d="M{x - 10:.1f} {y:.1f}l-7 -4v8z"><title>{said}</title></path>'
    area = f'x="{x - 14:.1f}" y="{high:.1f}" width="28" height="{low - high + 22:.1f}"'
    yield f'<rect class="brush" data-axis="{place}" {area}/>'


def _short(words: str) -> str:
    """The end of a dotted name says most."""
    while len(words) > LONGEST and "." in words:
        words = words.partition(".")[2]
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"
