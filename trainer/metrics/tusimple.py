"""TuSimple's lane accuracy and rates of false lanes, as ``evaluate/lane.py`` of TuSimple/tusimple-benchmark has them.

A lane is its x at given heights of the image, negative where there is none.
"""

from collections.abc import Sequence

import numpy as np

from trainer.metrics.statistics import ratio

PIXELS = 20.0
"""How far beside a vertical lane a point may lie; divided by the cosine of the lane's angle."""
MATCHED = 0.85
"""Share of the heights that a lane must have right to count as found."""
SLOWEST_MS = 200.0
MOST_EXTRA_LANES = 2
SCORED_LANES = 4
ABSENT = -100.0


class TusimpleStatistics:
    """:func:`frame_score` of each image; the metrics are means over images."""

    def __init__(self, frames: Sequence[np.ndarray]) -> None:
        self.frames = np.array(frames, np.float64).reshape(len(frames), 4)

    def __len__(self) -> int:
        return len(self.frames)

    def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """``accuracy``, ``FP`` and ``FN``; accuracy and FN are not defined where no image has a lane."""
        total = counts @ self.frames
        accuracy, false, missed = ratio(total[:, :3], counts.sum(axis=1, keepdims=True)).T
        lanes = total[:, 3] > 0
        return {"accuracy": np.where(lanes, accuracy, np.nan), "FP": false, "FN": np.where(lanes, missed, np.nan)}


def frame_score(predicted: np.ndarray, truth: np.ndarray, heights: np.ndarray, run_time: float = 0.0) -> np.ndarray:
    """Accuracy, FP, FN and the number of true lanes of one image (4).

    ``predicted`` K×S and ``truth`` L×S are the lanes' x at ``heights`` (S), ``run_time`` is in milliseconds. As in the
    official code an image that took too long, or has more than two lanes too many, finds nothing; of five true lanes
    the worst does not count; two true lanes may be found by the same prediction, even so that FP falls below 0; an
    image without a true lane has accuracy 0.
    """
    lanes = len(truth)
    if run_time > SLOWEST_MS or len(predicted) > lanes + MOST_EXTRA_LANES:
        return np.array([0.0, 0.0, 1.0, lanes])
    accuracies = _accuracies(predicted, truth, heights)
    found = int((accuracies >= MATCHED).sum())
    missed = lanes - found
    right = accuracies.sum()
    if lanes > SCORED_LANES:
        missed = max(missed - 1, 0)
        right -= accuracies.min()
    scored = max(min(lanes, SCORED_LANES), 1)
    return np.array([right / scored, (len(predicted) - found) / max(len(predicted), 1), missed / scored, lanes])


def _accuracies(predicted: np.ndarray, truth: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """L: of each true lane the share of heights that the best prediction has right; absent on both sides is right."""
    if not len(predicted) or not len(truth):
        return np.zeros(len(truth))
    reach = np.array([PIXELS / np.cos(_angle(lane, heights)) for lane in truth])
    found, wanted = (np.where(lanes >= 0, lanes, ABSENT) for lanes in (predicted, truth))
    near = np.abs(wanted[:, None] - found[None]) < reach[:, None, None]
    return np.asarray((near.sum(axis=2) / len(heights)).max(axis=1))


def _angle(lane: np.ndarray, heights: np.ndarray) -> float:
    """Of the line fitted to the lane's points (least squares), to the vertical; 0 with fewer than two points."""
    from scipy.linalg import lstsq

    present = lane >= 0
    if present.sum() < 2:
        return 0.0
    x, y = lane[present], heights[present]
    slope = lstsq((y - y.mean())[:, None], x - x.mean())[0][0]
    return float(np.arctan(slope))
