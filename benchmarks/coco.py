"""COCO's box metrics of 5,000 images: ``coco_metrics`` (faster-coco-eval) against pycocotools.

Both take the same ground truth and result list, as they come out of JSON, and end with the twelve numbers; they take
turns. Synthetic: about 7 objects an image and up to 100 detections, 80 classes in unequal shares. Fails when the median
ratio is below the target or the numbers differ. Writes ``benchmarks/results/coco.json``.
"""

import contextlib
import copy
import io
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import rounds_of, spread, write_result

from trainer.metrics.coco import NAMES, coco_metrics

IMAGES, CLASSES = 5000, 80
WIDTH, HEIGHT = 640, 480
TARGET = 4.0
Results = list[dict[str, Any]]


def main() -> int:
    rounds, load = rounds_of(__doc__, rounds=3).rounds, os.getloadavg()
    truth, results = scene(np.random.default_rng(0))
    seconds: dict[str, list[float]] = {"coco_metrics": [], "pycocotools": []}
    numbers: dict[str, dict[str, float | None]] = {}
    for number in range(rounds):
        for name, work in (("coco_metrics", coco_metrics), ("pycocotools", with_pycocotools)):
            took, numbers[name] = measured(work, truth, results)
            seconds[name].append(took)
        ours, theirs = (seconds[name][-1] for name in seconds)
        print(f"round {number + 1}/{rounds}: {ours:.1f} s, {theirs:.1f} s, {theirs / ours:.2f} times", flush=True)
    ratios = [theirs / ours for ours, theirs in zip(*seconds.values(), strict=True)]
    difference = max(abs((numbers["coco_metrics"][n] or 0) - (numbers["pycocotools"][n] or 0)) for n in NAMES)
    ok = float(np.median(ratios)) >= TARGET and difference < 1e-9
    report = {
        "what": f"{IMAGES} images, {len(truth['annotations'])} objects, {len(results)} detections, {CLASSES} classes",
        "rounds": rounds,
        "target_ratio": TARGET,
        "ok": ok,
        "seconds": {name: spread(values, "s") for name, values in seconds.items()},
        "ratio": spread(ratios),
        "largest_difference": difference,
    }
    write_result("coco", report, ("faster-coco-eval", "pycocotools", "numpy"), load)
    print(f"median {np.median(ratios):.2f} times as fast, target {TARGET}: {'ok' if ok else 'MISSED'}")
    return 0 if ok else 1


def measured(
    work: Callable[[dict[str, Any], Results], dict[str, float | None]], truth: dict[str, Any], results: Results
) -> tuple[float, dict[str, float | None]]:
    """Seconds and what ``work`` says; it gets copies of its own, as both evaluators write into what they are given."""
    own = copy.deepcopy(truth), copy.deepcopy(results)
    began = time.perf_counter()
    numbers = work(*own)
    return time.perf_counter() - began, numbers


def with_pycocotools(truth: dict[str, Any], results: Results) -> dict[str, float | None]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = truth
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(NAMES, evaluation.stats.tolist(), strict=True))


def scene(rng: np.random.Generator) -> tuple[dict[str, Any], Results]:
    """Ground truth and results: detections near most objects, the others anywhere and of lower scores."""
    share = 1 / np.arange(1, CLASSES + 1)
    share /= share.sum()
    images = [{"id": number, "height": HEIGHT, "width": WIDTH} for number in range(1, IMAGES + 1)]
    annotations: Results = []
    results: Results = []
    for image in images:
        objects = rng.poisson(7)
        kinds, boxes = rng.choice(CLASSES, objects, p=share) + 1, some_boxes(rng, objects)
        for kind, box in zip(kinds, boxes, strict=True):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image["id"], "category_id": int(kind), "bbox": box.tolist(),
                 "area": float(box[2] * box[3] * 0.7), "iscrowd": int(rng.random() < 0.01)}
            )  # fmt: skip
        near = rng.random(objects) < 0.9
        shaken = boxes[near] * rng.uniform(0.92, 1.08, (int(near.sum()), 4))
        others = int(min(rng.exponential(40), 100 - near.sum()))
        other_kinds = rng.choice(CLASSES, others, p=share) + 1
        found = [
            *zip(kinds[near], shaken, rng.beta(5, 2, len(shaken)), strict=True),
            *zip(other_kinds, some_boxes(rng, others), rng.beta(1, 6, others), strict=True),
        ]
        results += [
            {"image_id": image["id"], "category_id": int(kind), "bbox": box.tolist(), "score": float(score)}
            for kind, box, score in found
        ]
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def some_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """N×4 x y w h: sides from 8 pixels to half the image, small ones most often."""
    sides = np.exp(rng.uniform(np.log(8), np.log(HEIGHT / 2), (count, 2)))
    return np.concatenate([rng.uniform(0, [WIDTH, HEIGHT], (count, 2)) * 0.5, sides], axis=1)


if __name__ == "__main__":
    sys.exit(main())
