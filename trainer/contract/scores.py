"""The score of a cross-validation: one number from the metrics of its runs, larger is better.

Metrics are first combined for each run, then the runs' scores are averaged. A metric whose lower values are better
enters as ``1/x``. A run is unstable where any scoring metric is not a finite number or exactly 0, or where the run
has no result; where a run's score cannot be computed it is 0, so that no failure makes a score better.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from trainer.contract.metrics import direction

Mean = Literal["arithmetic", "geometric", "harmonic", "min"]
Metrics = Mapping[str, float | None]

MEANS: dict[str, Callable[[Sequence[float]], float]] = {
    "arithmetic": statistics.fmean,
    "geometric": statistics.geometric_mean,
    "harmonic": statistics.harmonic_mean,
    "min": min,
}
POSITIVE = ("geometric", "harmonic")
"""The means of positive values alone: a single 0 makes them 0."""

DIRECTIONS = {"higher": 1.0, "lower": -1.0}


def cross_validation_score(runs: Sequence[Metrics | None], metrics: Sequence[str], mean: Mean) -> float:
    """The mean of the runs' scores; None stands for a run without a result."""
    return statistics.fmean(run_score(run, metrics, mean) for run in runs)


def run_score(run: Metrics | None, metrics: Sequence[str], mean: Mean) -> float:
    """The scoring ``metrics`` of a run combined by ``mean``; 0 where that cannot be computed.

    A metric may say which way it is better: ``lanes/FP:lower``, ``lanes/F1:higher``; else its name does.
    """
    values = [_entering(run or {}, metric) for metric in metrics]
    if any(not math.isfinite(value) for value in values):
        return 0.0
    if mean in POSITIVE and any(value <= 0 for value in values):
        return 0.0
    return float(MEANS[mean](values))


def is_unstable(run: Metrics | None, metrics: Sequence[str]) -> bool:
    """Whether any of the scoring ``metrics`` is missing, not finite or exactly 0."""
    values = [_value(run or {}, metric) for metric in metrics]
    return any(not math.isfinite(value) or value == 0 for value in values)


def metric_of(scoring: str) -> str:
    """The metric's name without its direction."""
    name, _, suffix = scoring.rpartition(":")
    return name if suffix in DIRECTIONS else scoring


def _value(run: Metrics, metric: str) -> float:
    value = run.get(metric_of(metric))
    return math.nan if value is None else value


def _entering(run: Metrics, metric: str) -> float:
    value, suffix = _value(run, metric), metric.rpartition(":")[2]
    if DIRECTIONS.get(suffix, direction(metric_of(metric))) > 0:
        return value
    return 1 / value if value else math.inf
