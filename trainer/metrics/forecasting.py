"""Displacement errors of forecast paths, as nuScenes' prediction challenge defines them.

The source is ``eval/prediction/metrics.py`` of nutonomy/nuscenes-devkit: modes are taken in order of their
probability, of equal ones the later first; the least error of the first k counts; with fewer modes than k, all of them
do. ``ADE`` and ``FDE`` are those of the most probable mode. All in metres; each agent counts once, however many there
are in a sample.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from trainer.metrics.statistics import ratio

TOP_K = (1, 5, 10)
MISS_THRESHOLD = 2.0
MissDistance = Literal["max", "final"]
"""``max``: the largest distance along the path, at least the threshold (nuScenes); ``final``: the distance at its end,
above the threshold (Argoverse 2, ``motion_forecasting/eval/metrics.py`` of argoverse/av2-api)."""


class ForecastStatistics:
    """For each sample :func:`forecast_errors` of each of its agents."""

    def __init__(
        self,
        samples: Sequence[Sequence[np.ndarray]],
        top_k: Sequence[int] = TOP_K,
        miss_threshold: float = MISS_THRESHOLD,
        miss_distance: MissDistance = "max",
    ) -> None:
        self.names = ["ADE", "FDE"]
        self.names += [f"{name}{k}" for k in top_k for name in ("minADE", "minFDE", "miss_rate")]
        self.agents = np.array([len(agents) for agents in samples], np.float64)
        self.sums = np.zeros((len(samples), len(self.names)))
        for place, agents in enumerate(samples):
            for errors in agents:
                self.sums[place] += _values(errors, top_k, miss_threshold, miss_distance)

    def __len__(self) -> int:
        return len(self.agents)

    def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """``ADE``, ``FDE`` and for each k ``minADE<k>``, ``minFDE<k>`` and ``miss_rate<k>``."""
        means = ratio(counts @ self.sums, (counts @ self.agents)[:, None])
        return dict(zip(self.names, means.T, strict=True))


def forecast_errors(modes: np.ndarray, truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """M×3: mean, final and largest distance of each mode to the truth in metres, the most probable mode first.

    ``modes`` M×T×2, ``truth`` T×2, ``probabilities`` M.
    """
    order = np.argsort(probabilities, kind="stable")[::-1]
    distances = np.linalg.norm(modes[order] - truth, axis=2)
    return np.stack([distances.mean(axis=1), distances[:, -1], distances.max(axis=1)], axis=1)


def _values(errors: np.ndarray, top_k: Sequence[int], threshold: float, distance: MissDistance) -> list[float]:
    missed = errors[:, 2] >= threshold if distance == "max" else errors[:, 1] > threshold
    values = [errors[0, 0], errors[0, 1]]
    for k in top_k:
        values += [errors[:k, 0].min(), errors[:k, 1].min(), missed[:k].min()]
    return values


def constant_velocity(past: np.ndarray, steps: int) -> np.ndarray:
    """…×``steps``×2: the paths ``past`` (…×T×2, T ≥ 2) go on as between their last two points.

    Schöller et al., What the Constant Velocity Model Can Teach Us About Pedestrian Motion Prediction, 2020.
    """
    velocity: np.ndarray = past[..., -1:, :] - past[..., -2:-1, :]
    return past[..., -1:, :] + velocity * np.arange(1, steps + 1)[:, None]
