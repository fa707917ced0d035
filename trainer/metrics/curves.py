"""Curves of detectors and classifiers, from what every sample adds, as ``charts.json`` keeps them."""

from collections.abc import Sequence

import numpy as np

from trainer.contract.charts import Curves, Line
from trainer.metrics.calibration import CalibrationStatistics, reliability
from trainer.metrics.coco_statistics import RECALLS, CocoStatistics
from trainer.metrics.roc import roc
from trainer.metrics.statistics import point


def precision_recall(statistics: CocoStatistics) -> Curves:
    """At IoU 0.5, of each class that has objects; the mean precision is COCO's AP50."""
    lines = []
    for number, name in enumerate(statistics.classes):
        precision, _ = statistics.curve(number)
        if not np.isnan(precision).any():
            lines.append(Line(name=name, x=_rounded(RECALLS), y=_rounded(precision), summary=float(precision.mean())))
    return Curves(kind="precision_recall", lines=tuple(lines))


def roc_curves(histograms: np.ndarray, classes: Sequence[str]) -> Curves:
    """Each class against all others, from C×2×60 (:func:`trainer.metrics.roc.chance_histogram`); their areas."""
    lines = []
    for name, histogram in zip(classes, histograms, strict=True):
        found = roc(histogram)
        if found is not None:
            x, y = _rounded(found.false_positive), _rounded(found.true_positive)
            lines.append(Line(name=name, x=x, y=y, summary=found.area))
    return Curves(kind="roc", lines=tuple(lines))


def reliability_curve(samples: Sequence[np.ndarray]) -> Curves:
    """Of all classes together, from :func:`trainer.metrics.calibration.binned` of each sample; the ECE."""
    points = reliability(samples)
    error = point(CalibrationStatistics(samples))["ECE"]
    if error is None:
        return Curves(kind="reliability", lines=())
    line = Line(
        name="all classes",
        x=_rounded([one.confidence for one in points]),
        y=_rounded([one.accuracy for one in points]),
        predictions=tuple(one.predictions for one in points),
        summary=error,
    )
    return Curves(kind="reliability", lines=(line,))


def _rounded(values: Sequence[float] | np.ndarray) -> tuple[float, ...]:
    """To four digits: more cannot be seen, and the files stay small."""
    return tuple(round(float(value), 4) for value in values)
