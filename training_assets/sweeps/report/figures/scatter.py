"""Two figures of each trial against each other: two objectives with their front, or an objective and a constraint."""

from collections.abc import Iterator

from training_assets.sweeps.goals import Constraint, Direction, Objective
from training_assets.sweeps.report.figures.svg import Scale, about, axes, line, of_trial, svg, text, tones_of
from training_assets.sweeps.report.summary import SweepSummary, TrialRow

WIDTH, HEIGHT = 480, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 20, 44

Point = tuple[TrialRow, float, float]


def scatters(summary: SweepSummary) -> Iterator[tuple[str, str]]:
    """Caption and figure: of each further objective beside the first, else of each constraint beside the objective."""
    first, *others = summary.objectives
    for other in others:
        yield f"{first.metric} and {other.metric}; ringed: the Pareto front", _objectives(summary, first, other)
    for constraint in () if others else summary.constraints:
        if points := _constrained(summary, first, constraint):
            caption = f"{first.metric} and the constraint {constraint}; hollow: it is broken"
            yield caption, _constraint(summary, first, constraint, points)


def _objectives(summary: SweepSummary, first: Objective, other: Objective) -> str:
    points = [
        (row, row.objectives[other.metric], row.objectives[first.metric])
        for row in summary.trials
        if row.rank is not None and {first.metric, other.metric} <= row.objectives.keys()
    ]
    x, y = _scales(points)
    front = sorted((x(a), y(b)) for row, a, b in points if row.on_front)
    stairs = _stairs(front, other.direction) if len(summary.objectives) == 2 else ""
    parts = [*axes(x, y, _with_arrow(other), _with_arrow(first)), stairs, *_dots(summary, points, x, y)]
    return svg(f"{first.metric} and {other.metric}", WIDTH, HEIGHT, parts, "scatter")


def _stairs(front: list[tuple[float, float]], across: Direction) -> str:
    """What the front dominates ends at its stairs."""
    if len(front) < 2:
        return ""
    steps = [f"M{front[0][0]:.1f} {front[0][1]:.1f}"]
    for x, y in front[1:]:
        steps.append(f"V{y:.1f}H{x:.1f}" if across == "maximize" else f"H{x:.1f}V{y:.1f}")
    return f'<path class="front" d="{"".join(steps)}"/>'


def _constrained(summary: SweepSummary, objective: Objective, constraint: Constraint) -> list[Point]:
    found = []
    for row in summary.trials:
        kept = next(one for one in row.constraints if one.constraint == str(constraint))
        if kept.value is not None and objective.metric in row.objectives:
            found.append((row, kept.value, row.objectives[objective.metric]))
    return found


def _constraint(summary: SweepSummary, objective: Objective, constraint: Constraint, points: list[Point]) -> str:
    x, y = _scales(points, constraint.bound)
    bound = x(constraint.bound)
    parts = [
        *axes(x, y, constraint.metric, _with_arrow(objective)),
        line(bound, y.start, bound, y.end, "limit"),
        text(bound + 4, y.end + 10, f"{constraint.sign} {constraint.bound:g}", name="tick"),
        *_dots(summary, points, x, y),
    ]
    return svg(f"{objective.metric} and {constraint}", WIDTH, HEIGHT, parts, "scatter")


def _scales(points: list[Point], *more: float) -> tuple[Scale, Scale]:
    x = Scale.over([*(point[1] for point in points), *more], LEFT, WIDTH - RIGHT, room=0.06)
    return x, Scale.over([point[2] for point in points], HEIGHT - BOTTOM, TOP, room=0.06)


def _dots(summary: SweepSummary, points: list[Point], x: Scale, y: Scale) -> Iterator[str]:
    tones, names = tones_of(summary), [one.metric for one in summary.objectives]
    for row, across, up in reversed(points):
        place = f'cx="{x(across):.1f}" cy="{y(up):.1f}"'
        ring = f'<circle class="ring" {place} r="8"/>' if row.on_front else ""
        kind = "hollow" if row.feasible is False else "dot"
        yield of_trial(row, tones, f'{ring}<circle class="{kind}" {place} r="4.5"/>', about(row, names))


def _with_arrow(objective: Objective) -> str:
    return f"{objective.metric} ({'more' if objective.direction == 'maximize' else 'less'} is better)"
