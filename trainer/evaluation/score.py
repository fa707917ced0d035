"""``score``: files in standard formats, made by anybody, become metrics."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trainer.contract.errors import ContractError, Problem
from trainer.contract.images import LABEL_PNG, is_label_png
from trainer.tasks.coco import IouType, coco_metrics
from trainer.tasks.segmentation import confusion_matrix, iou_metrics

VOID = 255


def score_detection(ground_truth: Path, predictions: Path, iou_type: IouType | None = None) -> dict[str, float | None]:
    """COCO's twelve numbers of a result list against a COCO ground-truth file.

    ``iou_type`` is taken from the predictions when not given: ``segm`` if they have masks, else ``bbox``.

    Raises:
        ContractError: a file is not in COCO's format, or a prediction is of an unknown image or category.
    """
    truth, results = _json(ground_truth), _json(predictions)
    _check_coco(ground_truth, truth, predictions, results)
    chosen = iou_type or ("segm" if results and "segmentation" in results[0] else "bbox")
    return coco_metrics(truth, results, iou_type=chosen, classes=[one["name"] for one in truth["categories"]])


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise ContractError("a file cannot be read", [Problem(str(path), str(error), "a file")]) from None
    except json.JSONDecodeError as error:
        raise ContractError("a file cannot be read", [Problem(str(path), str(error), "JSON", error.lineno)]) from None


def _check_coco(truth_path: Path, truth: Any, results_path: Path, results: Any) -> None:
    keys = ("images", "annotations", "categories")
    if not isinstance(truth, dict) or any(key not in truth for key in keys):
        raise ContractError("not COCO", [Problem(str(truth_path), type(truth).__name__, f"an object with {keys}")])
    if not isinstance(results, list):
        raise ContractError("not COCO", [Problem(str(results_path), type(results).__name__, "a list of detections")])
    images, categories = ({one["id"] for one in truth[key]} for key in ("images", "categories"))
    problems = [
        problem
        for number, one in enumerate(results)
        for problem in _result_problems(one, number, results_path, images, categories)
    ]
    if problems:
        raise ContractError("predictions are refused", problems)


def _result_problems(one: Any, number: int, path: Path, images: set[Any], categories: set[Any]) -> list[Problem]:
    def problem(field: str, found: Any, expected: str) -> Problem:
        return Problem(str(path), str(found), expected, field=f"[{number}].{field}")

    if not isinstance(one, dict):
        return [Problem(str(path), repr(one), "an object", field=f"[{number}]")]
    found = []
    if one.get("image_id") not in images:
        found.append(problem("image_id", one.get("image_id"), "an image of the ground truth"))
    if one.get("category_id") not in categories:
        found.append(problem("category_id", one.get("category_id"), "a category of the ground truth"))
    score = one.get("score")
    if not isinstance(score, int | float) or not np.isfinite(score):
        found.append(problem("score", score, "a finite number"))
    box = one.get("bbox")
    if box is None and "segmentation" not in one:
        found.append(problem("bbox", "nothing", "a box [x, y, width, height] or a segmentation"))
    if box is not None and (len(box) != 4 or not np.isfinite(np.array(box, dtype=float)).all()):
        found.append(problem("bbox", box, "four finite numbers"))
    return found


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
    total = np.zeros((count, count), np.int64)
    for (name, truth, prediction), mask in zip(pairs, known, strict=True):
        try:
            total += confusion_matrix(np.where(mask, truth.astype(np.int64), count), prediction, count)
        except ValueError as error:
            problems.append(Problem(str(predictions / name), str(error), "a mask like the ground truth's"))
    if problems:
        raise ContractError("masks are refused", problems)
    return {"images": len(names), **iou_metrics(total, [str(number) for number in range(count)])}


def _mask(path: Path, problems: list[Problem]) -> np.ndarray:
    content = path.read_bytes() if path.is_file() else b""
    labels = is_label_png(content)
    mask = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if labels else None
    if mask is None:
        problems.append(Problem(str(path), "something else" if content else "nothing", LABEL_PNG))
        return np.zeros((0, 0), np.uint8)
    return mask
