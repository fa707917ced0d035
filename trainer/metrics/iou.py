"""Intersection over union of label masks (Everingham et al., The Pascal VOC Challenge: A Retrospective, 2015)."""

from collections.abc import Sequence

import numpy as np

from trainer.metrics.statistics import mean_of_defined, ratio


class IouStatistics:
    """One confusion matrix (C×C, truth by prediction) a sample.

    IoU = TP / (TP + FP + FN); a class that is neither in the truth nor predicted has none and does not count in the
    mean.
    """

    def __init__(self, matrices: Sequence[np.ndarray], classes: Sequence[str]) -> None:
        self.classes = list(classes)
        size = len(self.classes)
        self.matrices = np.array(matrices, np.float64).reshape(len(matrices), size, size)

    def __len__(self) -> int:
        return len(self.matrices)

    def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """``mIoU``, ``pixel_accuracy`` and ``IoU/<class>``."""
        total = np.tensordot(counts, self.matrices, axes=1)  # B×C×C
        hits = np.diagonal(total, axis1=1, axis2=2)
        iou = ratio(hits, total.sum(axis=1) + total.sum(axis=2) - hits)
        return {
            "mIoU": mean_of_defined(list(iou.T), len(counts)),
            "pixel_accuracy": ratio(hits.sum(axis=1), total.sum(axis=(1, 2))),
            **{f"IoU/{name}": iou[:, number] for number, name in enumerate(self.classes)},
        }


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    """C×C int64, truth by prediction, over the pixels of known truth.

    Raises:
        ValueError: the shapes differ, or a predicted value is no class.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"truth has shape {truth.shape}, prediction {prediction.shape}")
    known = truth < classes
    if known.any() and int(prediction[known].max()) >= classes:
        raise ValueError(f"predicted value {int(prediction[known].max())}, expected 0…{classes - 1}")
    pairs = truth[known].astype(np.int64) * classes + prediction[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
