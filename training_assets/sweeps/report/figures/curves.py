"""Learning curves: each trial's objective by epoch, ended where it was ended."""

from collections.abc import Iterator

from training_assets.sweeps.goals import Objective
from training_assets.sweeps.report.figures.svg import (
    Scale,
    about,
    axes,
    dense,
    line,
    of_trial,
    path,
    svg,
    text,
    tones_of,
)
from training_assets.sweeps.report.summary import SweepSummary, TrialRow

HEIGHT = 360
WIDE, NARROW = 1180, 574
"""Alone on its line, or beside another."""
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 24, 44


def learning_curves(summary: SweepSummary, objective: Objective) -> str:
    """Worst trials first, so that the best lie on top. Empty where no trial told of an epoch."""
    rows = [row for row in reversed(summary.trials) if row.curve.get(objective.metric)]
    if not rows:
        return ""
    width = WIDE if len(summary.objectives) == 1 else NARROW
    curves = [row.curve[objective.metric] for row in rows]
    x = Scale(0.0, max(max(curve) for curve in curves) + 0.5, LEFT, width - RIGHT)
    y = Scale.over((v for curve in curves for v in curve.values()), HEIGHT - BOTTOM, TOP)
    parts = [
        *axes(x, y, "epoch", objective.metric, ticks="whole"),
        *_rungs(rows, x, y),
        *_baseline(summary, objective, x, y),
        *_trials(summary, rows, objective, x, y),
    ]
    return svg(f"learning curves of {objective.metric}", width, HEIGHT, parts, f"curves{dense(rows)}")


def _rungs(rows: list[TrialRow], x: Scale, y: Scale) -> Iterator[str]:
    for rung in sorted({one.rung for row in rows for one in row.decisions if one.rung is not None}):
        yield line(x(rung), y.start, x(rung), y.end, "rung")
        yield text(x(rung) + 3, y.end + 4, f"rung {rung}", name="tick")


def _baseline(summary: SweepSummary, objective: Objective, x: Scale, y: Scale) -> Iterator[str]:
    """A line where the baseline is, if that is in sight."""
    value = None if summary.baseline is None else summary.baseline.metrics.get(objective.metric)
    if summary.baseline is not None and value is not None and y.low <= value <= y.high:
        yield line(x.start, y(value), x.end, y(value), "limit")
        yield text(x.start + 4, y(value) - 4, summary.baseline.name, name="tick halo")


def _trials(summary: SweepSummary, rows: list[TrialRow], objective: Objective, x: Scale, y: Scale) -> Iterator[str]:
    tones, names = tones_of(summary), [one.metric for one in summary.objectives]
    for row in rows:
        points = [(x(epoch), y(value)) for epoch, value in sorted(row.curve[objective.metric].items())]
        drawn = path(points)
        mark = f'<path class="near" d="{drawn}"/><path class="curve" d="{drawn}"/>{_end(row, *points[-1])}'
        yield of_trial(row, tones, mark, about(row, names))


def _end(row: TrialRow, x: float, y: float) -> str:
    """A cross where it was ended, a square where it waits, a dot where it came to its end or still runs."""
    if row.state in ("stopped", "failed"):
        return f'<path class="cross" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"/>'
    if row.state == "paused":
        return f'<rect class="dot" x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7"/>'
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{3.5 if row.state == "completed" else 2:g}"/>'
