"""What matters: bars of each evaluator, and the Shapley values trial by trial."""

from collections.abc import Iterator
from html import escape

from training_assets.sweeps.report.figures.svg import Scale, line, svg, text
from training_assets.sweeps.report.summary import Axis, Effect, Importance, SweepSummary
from training_assets.sweeps.report.values import choices_of, key, number, shown

NAMES, BARS, ROW, TOP = 190, 230, 24, 8
STRIP, BOTTOM = 400, 44
MOST = 15


def bars(found: Importance) -> str:
    """The parameters that matter most, the first first."""
    effects = found.effects[:MOST]
    scale = Scale(0.0, max(one.share for one in effects) or 1.0, NAMES, NAMES + BARS)
    parts = []
    for place, one in enumerate(effects):
        y = TOP + ROW * place
        parts.append(text(NAMES - 8, y + 15, one.parameter, "end"))
        parts.append(
            f'<rect class="bar" x="{NAMES}" y="{y + 4}" width="{scale(one.share) - NAMES:.1f}" height="14" rx="2"/>'
        )
        parts.append(text(scale(one.share) + 6, y + 15, f"{one.share:.1%}", name="tick"))
    return svg(f"{found.evaluator} of {found.metric}", NAMES + BARS + 60, TOP + ROW * len(effects) + 8, parts)


def strips(summary: SweepSummary, found: Importance) -> str:
    """A dot for each trial: how much its value adds (across), and whether that value is low or high (colour)."""
    effects = [one for one in found.effects[:MOST] if one.shap]
    low = TOP + ROW * len(effects) + 4
    x = Scale.over([0.0, *(v for one in effects for v in one.shap.values())], NAMES, NAMES + STRIP)
    parts = [*_across(x, low, f"adds to {found.metric}"), line(x(0.0), low, x(0.0), TOP, "axis")]
    axes_by_name = {axis.name: axis for axis in summary.parameters}
    for place, one in enumerate(effects):
        parts.append(text(NAMES - 8, TOP + ROW * place + 15, one.parameter, "end"))
        parts += _dots(summary, one, axes_by_name[one.parameter], x, TOP + ROW * place + 11)
    return svg(f"Shapley values of {found.metric}", NAMES + STRIP + 20, low + BOTTOM, parts)


def _across(x: Scale, low: float, name: str) -> Iterator[str]:
    for place, words in x.ticks():
        yield line(x(place), low, x(place), TOP)
        yield text(x(place), low + 16, words, "middle", "tick")
    yield text((x.start + x.end) / 2, low + 34, name, "middle")


def _dots(summary: SweepSummary, effect: Effect, axis: Axis, x: Scale, middle: float) -> Iterator[str]:
    """Spread over three heights by the trial's number, so that equal ones are still seen."""
    heat = _heat(summary, axis)
    for trial_id, value in effect.shap.items():
        row = summary.trial(trial_id)
        said = f"{row.name}: {axis.name} {shown(row.params.get(axis.name))} adds {value:+.3g}"
        place = f'cx="{x(value):.1f}" cy="{middle + 5 * (trial_id % 3 - 1):.1f}"'
        share = f"{heat.get(trial_id, 0.5):.0%}"
        yield (
            f'<g class="heat" data-trial="{trial_id}" style="--heat:{share}"><title>{escape(said)}</title>'
            f'<circle {place} r="3.6"/></g>'
        )


def _heat(summary: SweepSummary, axis: Axis) -> dict[int, float]:
    """Where each trial's value lies between the lowest (0) and the highest (1); of choices, by their order."""
    if axis.scale == "choice":
        keys = [key(one) for one in choices_of(axis, [row.params.get(axis.name) for row in summary.trials])]
        places = {row.id: float(keys.index(key(row.params.get(axis.name)))) for row in summary.trials}
    else:
        found = {row.id: number(axis, row.params) for row in summary.trials}
        places = {trial: value for trial, value in found.items() if value is not None}
    low, high = min(places.values(), default=0.0), max(places.values(), default=1.0)
    return {trial: (value - low) / ((high - low) or 1.0) for trial, value in places.items()}
