"""COCO result list against a COCO ground-truth file.

Ground truth: COCO's annotation file. Predictions: COCO's result list, with boxes or with masks as compressed RLE.
A sample of --attributes is an image's file_name, with or without its suffix, or its id; slices may also ask for
labels.boxes and labels.boxes.<category>.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from trainer.contract.errors import ContractError, Problem
from trainer.evaluation.coco_files import checked_iou_type
from trainer.evaluation.score.json_files import read_json
from trainer.evaluation.score.samples import Boxes, Samples
from trainer.metrics.coco import IouType, coco_metrics, indexed
from trainer.metrics.coco_statistics import ClassMatches, CocoStatistics, box_overlap, match_overlaps

Annotations = list[dict[str, Any]]


@dataclass(frozen=True)
class _Files:
    truth: dict[str, Any]
    results: Annotations
    iou_type: IouType

    @property
    def classes(self) -> list[str]:
        return [one["name"] for one in self.truth["categories"]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--iou-type", choices=("bbox", "segm"), help="default: what the predictions have")


def score(arguments: argparse.Namespace) -> dict[str, float | None]:
    """COCO's twelve numbers, and ``AP/<class>`` and ``AP50/<class>``."""
    files = _read(arguments)
    return coco_metrics(files.truth, files.results, iou_type=files.iou_type, classes=files.classes)


def read(arguments: argparse.Namespace) -> Samples:
    files = _read(arguments)
    _refuse_id_0(files.truth, arguments.ground_truth)
    images = sorted(files.truth["images"], key=lambda image: image["id"])  # COCO's order: decides between equal scores
    records, categories = _matches(files, [image["id"] for image in images])
    return Samples(
        names=[_names(image) for image in images],
        records=records,
        statistics=lambda chosen: CocoStatistics(chosen, files.classes),
        boxes=Boxes(files.classes, categories),
    )


def _read(arguments: argparse.Namespace) -> _Files:
    """``iou_type`` is taken from the predictions when not given: ``segm`` if they have masks, else ``bbox``."""
    truth, results = read_json(arguments.ground_truth), read_json(arguments.predictions)
    chosen = checked_iou_type(arguments.ground_truth, truth, arguments.predictions, results, arguments.iou_type)
    return _Files(truth, results, chosen)


def _refuse_id_0(truth: dict[str, Any], path: Path) -> None:
    """COCO's code takes the annotation 0 for "unmatched": its figures would differ from those of any slice."""
    problems = [
        Problem(str(path), "0", "an id from 1", field=f"annotations.{number}.id")
        for number, one in enumerate(truth["annotations"])
        if one["id"] == 0
    ]
    if problems:
        raise ContractError("the ground truth is refused", problems)


def _names(image: dict[str, Any]) -> tuple[str, ...]:
    file = image.get("file_name")
    if not isinstance(file, str) or not file:
        return (str(image["id"]),)
    path = PurePosixPath(file)
    return (file, str(path.parent / path.stem), str(image["id"]))


def _matches(files: _Files, images: Sequence[int]) -> tuple[list[dict[int, ClassMatches]], list[list[str]]]:
    """Of each image the matches by class number, and the categories of its objects."""
    truth, found = indexed(files.truth, files.results)
    numbers = {one["id"]: number for number, one in enumerate(files.truth["categories"])}
    matches, categories = [], []
    for image in images:
        pairs: dict[int, tuple[Annotations, Annotations]] = defaultdict(lambda: ([], []))
        for side, source in enumerate((truth, found)):
            for one in source.imgToAnns[image]:
                pairs[numbers[one["category_id"]]][side].append(one)
        matches.append({number: _match(truth, *pair, files.iou_type) for number, pair in pairs.items()})
        categories.append([files.classes[number] for number, (objects, _) in pairs.items() for _ in objects])
    return matches, categories


def _match(truth: Any, objects: Annotations, detections: Annotations, iou_type: IouType) -> ClassMatches:
    crowd = np.array([one.get("iscrowd", 0) for one in objects], bool)
    areas, truth_areas = (np.array([one["area"] for one in many], float) for many in (detections, objects))
    scores = np.array([one["score"] for one in detections], float)
    overlap = _mask_overlap if iou_type == "segm" else _box_overlap
    return match_overlaps(overlap(truth, detections, objects, crowd), scores, areas, truth_areas, crowd)


def _box_overlap(_: Any, detections: Annotations, objects: Annotations, crowd: np.ndarray) -> np.ndarray:
    boxes, own = (np.array([one["bbox"] for one in many], float).reshape(-1, 4) for many in (detections, objects))
    return box_overlap(boxes, own, crowd)


def _mask_overlap(truth: Any, detections: Annotations, objects: Annotations, crowd: np.ndarray) -> np.ndarray:
    from faster_coco_eval import mask

    if not detections or not objects:
        return np.zeros((len(detections), len(objects)))
    masks, own = ([truth.annToRLE(one) for one in many] for many in (detections, objects))
    return np.asarray(mask.iou(masks, own, crowd.astype(int).tolist()))
