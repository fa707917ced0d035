"""What samples add to metrics, kept so that the metrics over any resampling of the samples come at once."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
BLOCK = 100_000
"""Draws × samples at a time: what a metric needs for them grows with their product."""


Values = dict[str, np.ndarray]
"""Each metric: over the samples as they are, then over each bootstrap draw of them; NaN where it is not defined."""


class Statistics(Protocol):
    """What each of N samples adds to some metrics."""

    def __len__(self) -> int:
        """N."""

    def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Each metric over B draws of the samples; ``counts`` (B×N, float64) says how often each is in each draw.

        Returns B values for each metric, NaN where it is not defined (no ground truth of a class, say).
        """


class Joined:
    """Several statistics of the same samples as one; the names of their metrics differ."""

    def __init__(self, *parts: Statistics) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return len(self.parts[0])

    def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values for part in self.parts for name, values in part.metrics(counts).items()}


def point(statistics: Statistics) -> dict[str, float | None]:
    """The metrics over all samples, each once; None where one is not defined."""
    return points(statistics.metrics(np.ones((1, len(statistics)))))


def resampled(statistics: Statistics) -> Values:
    """The metrics over the samples as they are and over ``RESAMPLES`` :func:`draws` of them."""
    counts = np.concatenate([np.ones((1, len(statistics))), draws(len(statistics))])
    blocks = np.array_split(counts, min(len(counts), 1 + counts.size // BLOCK))
    values = [statistics.metrics(block) for block in blocks]
    return {name: np.concatenate([one[name] for one in values]) for name in values[0]}


def points(values: Values) -> dict[str, float | None]:
    """The metrics over the samples as they are; None where one is not defined."""
    return {name: None if np.isnan(drawn[0]) else float(drawn[0]) for name, drawn in values.items()}


def intervals(values: Values) -> dict[str, tuple[float, float] | None]:
    """The :func:`interval` of each metric over the draws."""
    return {name: interval(drawn[1:]) for name, drawn in values.items()}


def draws(samples: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """``counts`` of a bootstrap: each of ``resamples`` rows draws ``samples`` samples with replacement.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 6. The same for the same arguments.
    """
    if samples == 0:
        return np.zeros((resamples, 0))
    rng = np.random.default_rng([seed, samples])
    return rng.multinomial(samples, np.full(samples, 1 / samples), size=resamples).astype(np.float64)


def interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float] | None:
    """The percentile interval of bootstrap ``values`` (NaN: not defined in that draw); None where none is defined."""
    known = np.sort(values[~np.isnan(values)])
    if not known.size:
        return None
    # np.quantile says the same, slowly: a report has thousands of intervals.
    places = np.array([(1 - level) / 2, (1 + level) / 2]) * (len(known) - 1)
    low, high = np.interp(places, np.arange(len(known)), known)
    return float(low), float(high)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """``numerator / denominator``, NaN where the denominator is 0."""
    nowhere = np.full(np.shape(numerator), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=nowhere, where=denominator != 0))


def mean_of_defined(values: Sequence[np.ndarray], draws: int) -> np.ndarray:
    """The mean of what is not NaN among ``values`` (each B), NaN where nothing is."""
    if not values:
        return np.full(draws, np.nan)
    stacked = np.stack(values)
    known = ~np.isnan(stacked)
    return ratio(np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0))


class Among:
    """Statistics of those samples alone for which ``known`` (N booleans) holds: the others have no labels."""

    def __init__(self, known: Sequence[bool], statistics: Statistics) -> None:
        self.known, self.statistics = np.array(known, bool), statistics

    def __len__(self) -> int:
        return len(self.known)

    def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        return self.statistics.metrics(counts[:, self.known])
