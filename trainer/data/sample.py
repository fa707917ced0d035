"""One sample on its way from a shard to the tasks."""

from dataclasses import dataclass

import numpy as np

from trainer.contract.manifest import Row
from trainer.data.augment import View


@dataclass(frozen=True)
class Labelled:
    """One sample as the tasks see it: its row, the view of it, and its mask if it has one.

    ``mask`` is H×W uint8, in the view's size for training and as delivered for evaluation;
    ``source_size`` is the delivered image's (height, width). A recipe without a camera has ``BLIND`` views and size
    (0, 0). ``rng`` is for a task's own augmentation, None where nothing is augmented.
    """

    row: Row
    view: View
    source_size: tuple[int, int]
    mask: np.ndarray | None
    rng: np.random.Generator | None = None


BLIND = View(0, 0, 0, 0, 0, 0)
"""The view of a sample whose image is not looked at."""
