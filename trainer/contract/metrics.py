"""Which way a metric is better, by its name: ``<task>/<name>`` or ``<task>/<name>/<class>``."""

LOWER_IS_BETTER = frozenset({"ADE", "FDE", "minADE", "minFDE", "miss_rate", "ECE", "FP", "FN"})
"""Displacement errors and misses of forecasts, calibration errors, TuSimple's rates of false lanes; all else rises."""


def direction(metric: str) -> float:
    """1 where a higher value is better, -1 where a lower one is; a number of modes behind the name does not matter."""
    name = metric.split("/")[1] if "/" in metric else metric
    return -1.0 if name.rstrip("0123456789") in LOWER_IS_BETTER else 1.0


def gain(metric: str, value: float, reference: float) -> float:
    """How much better ``value`` is than ``reference``; below zero it is worse."""
    return direction(metric) * (value - reference)
