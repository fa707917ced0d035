"""What one run's curve, or many, say of a run that goes on: both sides stop by these."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median

Series = Mapping[int, float]
"""A metric after each epoch that has it, turned round where lower is better."""


def epochs_without_improvement(series: Series, min_delta: float) -> int:
    """Epochs since the metric last rose above its best by more than ``min_delta``; 0 without values."""
    best, at = float("-inf"), max(series, default=0)
    for epoch in sorted(series):
        if series[epoch] > best + min_delta:
            best, at = series[epoch], epoch
    return max(series, default=0) - at


def median_of_running_averages(runs: Sequence[Series], epoch: int, min_runs: int) -> float | None:
    """The median over ``runs`` of the mean of their values up to ``epoch``; None with fewer than ``min_runs``.

    Counted are the runs that came as far as ``epoch``. The rule (Golovin et al., Google Vizier, 2017, 3.2.2; SageMaker
    does the same) stops a run whose best value so far is strictly worse.
    """
    far = [run for run in runs if run and min(run) <= epoch <= max(run)]
    averages = [fmean(value for at, value in run.items() if at <= epoch) for run in far]
    return median(averages) if len(averages) >= min_runs else None
