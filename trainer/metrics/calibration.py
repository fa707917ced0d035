"""Expected calibration error (Guo et al., On Calibration of Modern Neural Networks, 2017): 15 bins of equal width."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainer.metrics.statistics import ratio

BINS = 15
EDGES = np.linspace(0.0, 1.0, BINS + 1)


class CalibrationStatistics:
    """:func:`binned` of each sample, which may hold any number of predictions: pixels, boxes."""

    def __init__(self, samples: Sequence[np.ndarray]) -> None:
        self.bins = np.array(samples, np.float64).reshape(len(samples), 3, BINS)

    def __len__(self) -> int:
        return len(self.bins)

    def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """``ECE``: how far confidence and accuracy are apart in a bin, weighed by the predictions in it."""
        number, confidence, correct = np.tensordot(counts, self.bins, axes=1).transpose(1, 0, 2)  # B×bins each
        return {"ECE": ratio(np.abs(confidence - correct).sum(axis=1), number.sum(axis=1))}


@dataclass(frozen=True)
class ReliabilityPoint:
    """One bin that holds predictions: their number, mean confidence and accuracy."""

    predictions: int
    confidence: float
    accuracy: float


def reliability(samples: Sequence[np.ndarray]) -> list[ReliabilityPoint]:
    """The points of the reliability diagram over ``samples`` (:func:`binned`), by rising confidence."""
    bins = np.sum(samples, axis=0) if len(samples) else np.zeros((3, BINS))
    return [ReliabilityPoint(int(n), float(sure / n), float(right / n)) for n, sure, right in bins.T if n > 0]


def binned(confidences: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """3×15: how many predictions, the sum of their confidences, and how many were correct, in each bin.

    ``confidences`` in 0…1 and ``correct`` (bool) are of equal shape. A bin holds its upper edge, not its lower one;
    the first holds 0 as well.
    """
    confidences = np.asarray(confidences, np.float64).ravel()
    bins = np.searchsorted(EDGES, confidences, side="left").clip(1, BINS) - 1
    weights = (None, confidences, np.asarray(correct, np.float64).ravel())
    return np.stack([np.bincount(bins, weight, BINS) for weight in weights])
