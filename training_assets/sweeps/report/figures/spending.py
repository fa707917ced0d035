"""What the sweep used: over time towards its cap, and by trial."""

from collections.abc import Iterator

from training_assets.sweeps.report.books import TRIAL_HOURS
from training_assets.sweeps.report.figures.svg import Scale, about, axes, line, of_trial, path, svg, text, tones_of
from training_assets.sweeps.report.summary import Cap, SweepSummary, TrialRow

WIDTH, HEIGHT = 480, 280
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 20, 44
FIELDS = {"USD": "cost_usd", "GPU hours": "gpu_hours", TRIAL_HOURS: "seconds"}


def over_time(summary: SweepSummary) -> str:
    """All trials together by hours since the start, the cap as a line, the forecast dashed."""
    budget = summary.budget
    if not budget.spent:
        return ""
    cap = next((one for one in budget.caps if one.what == budget.unit), Cap(what=budget.unit, used=0.0))
    ends = [one for one in (cap.limit, cap.forecast) if one is not None]
    hours = budget.spent[-1].hours
    x = Scale(0.0, (hours or 1.0) * 1.15, LEFT, WIDTH - RIGHT)
    y = Scale(0.0, max([one.total for one in budget.spent] + ends) * 1.08 or 1.0, HEIGHT - BOTTOM, TOP)
    points = [(x(0.0), y(0.0)), *((x(one.hours), y(one.total)) for one in budget.spent)]
    area = f"{path(points)}V{y(0.0):.1f}H{x(0.0):.1f}Z"
    parts = [
        *axes(x, y, "hours since the start", budget.unit),
        f'<path class="area" d="{area}"/><path class="spent" d="{path(points)}"/>',
        *_limits(cap, x, y, points[-1]),
    ]
    return svg(f"{budget.unit} over time", WIDTH, HEIGHT, parts)


def _limits(cap: Cap, x: Scale, y: Scale, last: tuple[float, float]) -> Iterator[str]:
    if cap.limit is not None:
        yield line(x.start, y(cap.limit), x.end, y(cap.limit), "limit")
        yield text(x.end, y(cap.limit) - 5, f"cap {cap.limit:g}", "end", "tick")
    if cap.forecast is not None:
        yield line(*last, x.end, y(cap.forecast), "forecast")
        yield text(x.end, y(cap.forecast) - 6, f"forecast {cap.forecast:.3g}", "end", "tick")


def by_trial(summary: SweepSummary) -> str:
    """A bar for each trial in the order in which they were made; a short bar is a trial ended early."""
    unit, found = _costs(summary)
    if not found:
        return ""
    x = Scale(-0.5, len(found) - 0.5, LEFT, WIDTH - RIGHT)
    y = Scale(0.0, max(cost for _, cost in found) * 1.08 or 1.0, HEIGHT - BOTTOM, TOP)
    tones, names = tones_of(summary), [one.metric for one in summary.objectives]
    parts = list(axes(x, y, "trials, in the order in which they were made", unit, ticks="none"))
    width = max((x(1) - x(0)) * 0.8, 0.6)
    for place, (row, cost) in enumerate(found):
        bar = f'x="{x(place) - width / 2:.1f}" y="{y(cost):.1f}" width="{width:.1f}" height="{y(0) - y(cost):.1f}"'
        parts.append(of_trial(row, tones, f'<rect class="dot" {bar}/>', f"{about(row, names)}\n{unit} {cost:.4g}"))
    return svg(f"{unit} by trial", WIDTH, HEIGHT, parts)


def _costs(summary: SweepSummary) -> tuple[str, list[tuple[TrialRow, float]]]:
    """In the budget's unit if that is known of any trial, else in whatever is."""
    rows = sorted(summary.trials, key=lambda row: row.id)
    for unit in (summary.budget.unit, *FIELDS):
        field, scale = FIELDS.get(unit, ""), 3600.0 if FIELDS.get(unit) == "seconds" else 1.0
        found = [(row, value / scale) for row in rows if (value := getattr(row, field, None)) is not None]
        if any(cost > 0 for _, cost in found):
            return unit, found
    return "", []
