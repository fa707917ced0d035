"""CULane's F1 of lanes (Pan et al., Spatial As Deep, 2018), as ``utils/culane_metric.py`` of lucastabelini/LaneATT
computes it with its option ``official``; CLRNet and CLRerNet evaluate with the same code.

A lane is a polyline in pixels. A cubic spline through its points is drawn 30 pixels wide; predicted and true lanes are
paired one to one so that the sum of their IoU is largest; a pair above 0.5 is a hit.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from trainer.metrics.statistics import ratio

WIDTH = 30
IOU = 0.5
STEPS = 5
"""Parts that the spline is drawn in between two points."""
FARTHEST = 1e6
"""Pixels from the origin, to which points are drawn back: larger coordinates would not fit into 32 bits."""


class LaneF1Statistics:
    """:func:`match_lanes` of each image; the metrics are those of the sums."""

    def __init__(self, matches: Sequence[np.ndarray]) -> None:
        self.matches = np.array(matches, np.float64).reshape(len(matches), 3)

    def __len__(self) -> int:
        return len(self.matches)

    def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """``F1``, ``precision`` and ``recall``; not defined without lanes to divide by (the official code says 0)."""
        hits, false, missed = (counts @ self.matches).T
        return {
            "F1": ratio(2 * hits, 2 * hits + false + missed),
            "precision": ratio(hits, hits + false),
            "recall": ratio(hits, hits + missed),
        }


def match_lanes(predicted: Sequence[np.ndarray], truth: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Hits, false and missed lanes of one image (3).

    Lanes are P×2 (x, y) in pixels of an image of ``size`` (height, width). Those of fewer than two points cannot be
    drawn and do not count, as in the reference.
    """
    from scipy.optimize import linear_sum_assignment

    found, wanted = (_drawn(lanes, size) for lanes in (predicted, truth))
    hits = 0
    if found and wanted:
        overlap = _overlap(found, wanted)
        pairs = linear_sum_assignment(1 - overlap)
        hits = int((overlap[pairs] > IOU).sum())
    return np.array([hits, len(found) - hits, len(wanted) - hits])


def _overlap(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> np.ndarray:
    """IoU of each picture of ``first`` with each of ``second``; 0 where both are empty."""
    common = np.array([[cv2.countNonZero(cv2.bitwise_and(one, other)) for other in second] for one in first], float)
    areas = [np.array([cv2.countNonZero(one) for one in pictures], float) for pictures in (first, second)]
    return np.asarray(np.nan_to_num(ratio(common, areas[0][:, None] + areas[1][None] - common)))


def _drawn(lanes: Sequence[np.ndarray], size: tuple[int, int]) -> list[np.ndarray]:
    """Of each lane that can be drawn the picture (``size``, uint8), 1 on the lane."""
    pictures = []
    for lane in map(_distinct, lanes):
        if len(lane) > 1:
            points = _spline(lane).clip(-FARTHEST, FARTHEST).astype(np.int32)
            pictures.append(cv2.polylines(np.zeros(size, np.uint8), [points[:, None]], False, 1, WIDTH))
    return pictures


def _distinct(lane: np.ndarray) -> np.ndarray:
    """``lane`` without points that repeat the one before: no spline goes through them."""
    lane = np.asarray(lane, np.float64).reshape(-1, 2)
    distinct: np.ndarray = lane[np.append(True, (np.diff(lane, axis=0) != 0).any(axis=1))[: len(lane)]]
    return distinct


def _spline(lane: np.ndarray) -> np.ndarray:
    """Points on the interpolating spline, cubic where there are four points or more."""
    from scipy.interpolate import splev, splprep

    curve, _ = splprep(list(lane.T), s=0, k=min(3, len(lane) - 1))
    return np.stack(splev(np.linspace(0.0, 1.0, (len(lane) - 1) * STEPS + 1), curve), axis=1)
