"""Which class a detector takes for which, and what it misses or sees where nothing is.

COCO matches each class alone and has no such matrix. Here the detections of all classes compete, as in COCO best
first, for the objects of all classes.
"""

from collections.abc import Sequence

import numpy as np

from trainer.contract.charts import BACKGROUND, Confusion
from trainer.metrics.coco_statistics import box_overlap

IOU = 0.5
SURE = 0.3
"""The least score of a detection that counts, and that is drawn."""


def confused_pairs(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray, truth: np.ndarray, kinds: np.ndarray, crowd: np.ndarray
) -> np.ndarray:
    """K×2 int16: true and predicted class number of every object and every sure detection of one image.

    Each detection takes, the best score first, of the free objects that it overlaps with an IoU of 0.5 or more the one
    that it overlaps most, whatever its class. -1 stands for no object or no detection. ``boxes`` D×4 and ``truth`` G×4
    as x y w h; ``crowd`` G: regions that are not missed and in which nothing is wrong.
    """
    order = np.argsort(-scores, kind="stable")
    sure = order[scores[order] >= SURE]
    free, pairs = ~crowd, []
    for number, overlap in zip(sure, box_overlap(boxes[sure], truth, crowd), strict=True):
        near = overlap >= IOU
        if (near & free).any():
            taken = int(np.where(near & free, overlap, -1.0).argmax())
            free[taken] = False
            pairs.append((kinds[taken], classes[number]))
        elif not (near & crowd).any():
            pairs.append((-1, classes[number]))
    pairs += [(kind, -1) for kind in kinds[free]]
    return np.array(pairs, np.int16).reshape(-1, 2)


def box_confusion(samples: Sequence[np.ndarray], classes: Sequence[str]) -> Confusion:
    """The matrix over :func:`confused_pairs` of each sample; the last row and column are the background."""
    counts = np.zeros((len(classes) + 1,) * 2, int)
    for pairs in samples:
        np.add.at(counts, tuple(pairs.T), 1)
    return Confusion(classes=(*classes, BACKGROUND), counts=tuple(tuple(map(int, row)) for row in counts))
