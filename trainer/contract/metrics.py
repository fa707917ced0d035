"""Which way a metric is better, by its name: ``<task>/<name>`` or ``<task>/<name>/<class>``."""

LOWER_IS_BETTER = frozenset({"ADE", "FDE", "minADE", "minFDE", "miss_rate", "ECE", "FP", "FN"})
"""Displacement errors and misses of forecasts, calibration errors, TuSimple's rates of false lanes; all else rises."""


def lower_is_better(metric: str) -> bool:
    """
    ``minADE5`` and the like, with the number of modes behind, are ``minADE``.
    """
    name = metric.split("/")[1] if "/" in metric else metric
    return name.rstrip("0123456789") in LOWER_IS_BETTER or name in LOWER_IS_BETTER


def gain(metric: str, value: float, reference: float) -> float:
    """How much better ``value`` is than ``reference``; below zero it is worse."""
    return reference - value if lower_is_better(metric) else value - reference
