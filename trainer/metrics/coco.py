"""COCO's detection metrics, as its own evaluation defines them (cocodataset.org, detection-eval)."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

IouType = Literal["bbox", "segm"]
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve numbers in the order in which its evaluation prints them."""


def coco_metrics(
    ground_truth: dict[str, Any],
    results: list[dict[str, Any]],
    *,
    iou_type: IouType = "bbox",
    classes: Sequence[str] = (),
) -> dict[str, float | None]:
    """COCO's twelve numbers, and ``AP/<class>`` and ``AP50/<class>`` of the named classes.

    Evaluated over every image of ``ground_truth``, with detections or without. None where there is no ground
    truth to compare with (COCO's -1).
    """
    if not ground_truth["annotations"]:
        per_class = [f"{kind}/{name}" for kind in ("AP", "AP50") for name in classes]
        return dict.fromkeys([*NAMES, *per_class])
    evaluation = _evaluate(ground_truth, results, iou_type)
    metrics = {name: _defined(value) for name, value in zip(NAMES, evaluation.stats[:12], strict=True)}
    precision = evaluation.eval["precision"]  # IoU × recall × class × area × max detections
    numbers = {category["name"]: i for i, category in enumerate(sorted(ground_truth["categories"], key=_id))}
    for name in classes:
        of_class = precision[:, :, numbers[name], 0, -1]
        metrics[f"AP/{name}"] = _mean(of_class)
        metrics[f"AP50/{name}"] = _mean(of_class[0])
    return metrics


def indexed(ground_truth: dict[str, Any], results: list[dict[str, Any]]) -> tuple[Any, Any]:
    """Both as faster-coco-eval's ``COCO``, which adds to the results the fields that follow from the others."""
    from faster_coco_eval import COCO

    truth = COCO(ground_truth)
    return truth, truth.loadRes(results) if results else COCO({**ground_truth, "annotations": []})


def _evaluate(ground_truth: dict[str, Any], results: list[dict[str, Any]], iou_type: IouType) -> Any:
    from faster_coco_eval import COCOeval_faster

    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = indexed(ground_truth, results)
        evaluation = COCOeval_faster(truth, found, iou_type, print_function=lambda *_: None)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _id(category: dict[str, Any]) -> int:
    return int(category["id"])


def _defined(value: float) -> float | None:
    return None if value < 0 else float(value)


def _mean(precision: np.ndarray) -> float | None:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else None
