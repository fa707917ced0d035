"""ROC curves of a class against all others, from histograms (Fawcett, An Introduction to ROC Analysis, 2006)."""

from dataclasses import dataclass

import numpy as np

BINS = 60
EDGES = 1 / (1 + np.exp(-np.linspace(-9.0, 9.0, BINS - 1)))
"""Between the bins: of equal width in log-odds, for of a rare class most chances are far below one half."""


def chance_histogram(chances: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """2×60: how many negatives and positives (bool, N) have their chance (N, 0…1) in each of 60 bins."""
    bins = np.searchsorted(EDGES, chances, side="right")
    return np.bincount(bins + BINS * positive.astype(int), minlength=2 * BINS).reshape(2, BINS)


@dataclass(frozen=True)
class Roc:
    """False and true positive rates at falling thresholds (61 each, from 0 to 1) and the area below."""

    false_positive: np.ndarray
    true_positive: np.ndarray
    area: float


def roc(histogram: np.ndarray) -> Roc | None:
    """The curve of a summed :func:`chance_histogram`; None without positives or without negatives."""
    totals = histogram.sum(axis=1)
    if not totals.all():
        return None
    rates = np.concatenate([np.zeros((2, 1)), histogram[:, ::-1].cumsum(axis=1) / totals[:, None]], axis=1)
    return Roc(rates[0], rates[1], float(np.trapezoid(rates[1], rates[0])))
