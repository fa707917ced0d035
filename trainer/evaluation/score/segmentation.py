"""Folder of mask PNGs against another with the same names.

Masks are PNGs of one grey channel of 8 bits; the value of a pixel is its class.
A sample of --attributes is a mask's file name, with or without .png.
"""

import argparse
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trainer.contract.errors import ContractError, Problem
from trainer.contract.images import LABEL_PNG, is_label_png
from trainer.evaluation.score.samples import Samples
from trainer.metrics.iou import IouStatistics, confusion_matrix

VOID = 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ignore", type=int, action="append", help="mask value that is not scored (default 255)")
    parser.add_argument(
        "--classes", type=_from_1_to_256, metavar="N", help="number of classes; default: from the ground truth"
    )


def _from_1_to_256(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 256:
        raise argparse.ArgumentTypeError(f"{number} is not from 1 to 256, what a mask of 8 bits can hold")
    return number


def score(arguments: argparse.Namespace) -> dict[str, Any]:
    """``images``, mIoU, pixel accuracy and per-class IoU."""
    return read(arguments).metrics()


def read(arguments: argparse.Namespace) -> Samples:
    """The number of classes defaults to the highest value that is not ignored, plus one."""
    ground_truth, predictions = arguments.ground_truth, arguments.predictions
    ignore = arguments.ignore or (VOID,)
    names = _names(ground_truth, predictions)
    problems: list[Problem] = []
    pairs = [(name, _mask(ground_truth / name, problems), _mask(predictions / name, problems)) for name in names]
    if problems:
        raise ContractError("masks are refused", problems)
    known = [np.isin(truth, ignore, invert=True) for _, truth, _ in pairs]
    count = arguments.classes or 1 + max(
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
    classes = [str(number) for number in range(count)]
    return Samples(
        names=[(name, Path(name).stem) for name in names],
        records=matrices,
        statistics=lambda chosen: IouStatistics(chosen, classes),
        counts={"images": len(names)},
    )


def _names(ground_truth: Path, predictions: Path) -> list[str]:
    """The names of the masks to compare; a missing prediction is found when it is read."""
    names, predicted = ({path.name for path in folder.glob("*.png")} for folder in (ground_truth, predictions))
    if not names:
        raise ContractError("nothing to score", [Problem(str(ground_truth), "no *.png", "mask PNGs")])
    if unknown := sorted(predicted - names):
        expected = f"a name that {ground_truth} has"
        problems = [Problem(str(predictions / name), "a mask of no sample", expected) for name in unknown]
        raise ContractError("masks are refused", problems)
    return sorted(names)


def _mask(path: Path, problems: list[Problem]) -> np.ndarray:
    content = path.read_bytes() if path.is_file() else b""
    labels = is_label_png(content)
    mask = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) if labels else None
    if mask is None:
        problems.append(Problem(str(path), "something else" if content else "nothing", LABEL_PNG))
        return np.zeros((0, 0), np.uint8)
    return mask
