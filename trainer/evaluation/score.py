"""``score``: files in standard formats, made by anybody, become metrics."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trainer.contract.errors import ContractError, Problem
from trainer.contract.images import LABEL_PNG, is_label_png
from trainer.evaluation.coco_files import checked_iou_type
from trainer.metrics.coco import IouType, coco_metrics
from trainer.metrics.iou import IouStatistics, confusion_matrix
from trainer.metrics.statistics import point

VOID = 255


def score_detection(ground_truth: Path, predictions: Path, iou_type: IouType | None = None) -> dict[str, float | None]:
    """COCO's twelve numbers of a result list against a COCO ground-truth file.

    ``iou_type`` is taken from the predictions when not given: ``segm`` if they have masks, else ``bbox``.

    Raises:
        ContractError: a file is not in COCO's format, or a prediction is of an unknown image or category.
    """
    truth, results = _json(ground_truth), _json(predictions)
    chosen = checked_iou_type(ground_truth, truth, predictions, results, iou_type)
    return coco_metrics(truth, results, iou_type=chosen, classes=[one["name"] for one in truth["categories"]])


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ContractError("a file cannot be read", [Problem(str(path), str(error), "a file")]) from None
    except json.JSONDecodeError as error:
        raise ContractError("a file cannot be read", [Problem(str(path), str(error), "JSON", error.lineno)]) from None


def score_segmentation(
    ground_truth: Path, predictions: Path, ignore: Sequence[int] = (VOID,), classes: int | None = None
) -> dict[str, Any]:
    """mIoU, pixel accuracy and per-class IoU of a folder of mask PNGs against another with the same names.

    ``classes`` defaults to the highest value that is not ignored, plus one.

    Raises:
        ContractError: a prediction is missing, unreadable, of another size, or has a value that is no class.
    """
    names = sorted(path.name for path in ground_truth.glob("*.png"))
    if not names:
        raise ContractError("nothing to score", [Problem(str(ground_truth), "no *.png", "mask PNGs")])
    problems: list[Problem] = []
    pairs = [(name, _mask(ground_truth / name, problems), _mask(predictions / name, problems)) for name in names]
    if problems:
        raise ContractError("masks are refused", problems)
    known = [np.isin(truth, ignore, invert=True) for _, truth, _ in pairs]
    count = classes or 1 + max(
        int(truth[mask].max(initial=0)) for (_, truth, _), mask in zip(pairs, known, strict=True)
    )
    matrices = []
    for (name, truth, prediction), mask in zip(pairs, known, strict=True):
        try:
            matrices.append(confusion_matrix(np.where(mask, truth.astype(np.int64), count), prediction, count))
        except ValueError as error:
            problems.append(Problem(str(predictions / name), str(error), "a mask like the ground truth's"))
    if problems:
        raise ContractError("masks are refused", problems)
    return {"images": len(names), **point(IouStatistics(matrices, [str(number) for number in range(count)]))}


def _mask(path: Path, problems: list[Problem]) -> np.ndarray:
    content = path.read_bytes() if path.is_file() else b""
    labels = is_label_png(content)
    mask = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if labels else None
    if mask is None:
        problems.append(Problem(str(path), "something else" if content else "nothing", LABEL_PNG))
        return np.zeros((0, 0), np.uint8)
    return mask
