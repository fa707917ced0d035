"""Values of parameters: as JSON has them, as people read them, and as numbers that a figure or a model can place."""

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from training_assets.intervals import NOTHING
from training_assets.sweeps.report.summary import Axis


def plain(value: Any) -> JsonValue:
    """Tuples as lists."""
    return [plain(one) for one in value] if isinstance(value, tuple | list) else value


def shown(value: JsonValue) -> str:
    """Numbers with four significant digits, text as it is."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def key(value: JsonValue) -> str:
    """What choices are told apart by: 1 is not True."""
    return json.dumps(value, sort_keys=True)


def choices_of(axis: Axis, seen: list[JsonValue]) -> list[JsonValue]:
    """The declared choices, and those that trials had beside them."""
    return list({key(value): value for value in (*axis.choices, *seen)}.values())


def number(axis: Axis, params: Mapping[str, JsonValue]) -> float | None:
    """The parameter on its own scale (log10 where that is log); None where the trial has no number for it."""
    value = params.get(axis.name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    if axis.scale != "log":
        return float(value)
    return math.log10(value) if value > 0 else None
