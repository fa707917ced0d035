import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from trainer.metrics.coco import NAMES, coco_metrics
from trainer.metrics.coco_statistics import RECALLS, CocoStatistics, _recalls_reached, box_overlap, match_overlaps
from trainer.metrics.statistics import draws, point

CLASSES = ("car", "person", "tram")


def random_case(seed: int, images: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Objects of all sizes, some of them crowds, and detections near them, of wrong classes, and of nothing."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 6)):
            side = rng.choice([12.0, 40.0, 120.0]) * rng.uniform(0.6, 1.4, 2)
            box = [*rng.uniform(0, 300, 2), *side]
            category = int(rng.integers(1, 3))  # of a tram there is nothing
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": category, "bbox": box,
                 "area": box[2] * box[3], "iscrowd": int(rng.random() < 0.2)}
            )  # fmt: skip
            for _ in range(rng.integers(0, 4)):
                moved = [*(box[:2] + rng.normal(0, 4, 2)), *(side * rng.uniform(0.8, 1.2, 2))]
                results.append(
                    {"image_id": image, "category_id": int(rng.choice([category, 1, 3])), "bbox": moved,
                     "score": float(rng.choice([0.3, rng.random()]))}
                )  # fmt: skip
    truth = {
        "images": [{"id": number, "height": 480, "width": 640} for number in range(1, images + 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)],
        "annotations": annotations,
    }
    return truth, results


def statistics(truth: dict[str, Any], results: list[dict[str, Any]]) -> CocoStatistics:
    numbers = {one["id"]: place for place, one in enumerate(truth["categories"])}
    images = []
    for image in sorted(one["id"] for one in truth["images"]):  # COCO's order, which decides between equal scores
        objects = [one for one in truth["annotations"] if one["image_id"] == image]
        found = [one for one in results if one["image_id"] == image]
        matches = {}
        for category, number in numbers.items():
            own = [one for one in objects if one["category_id"] == category]
            detected = [one for one in found if one["category_id"] == category]
            if own or detected:
                boxes, truths = (np.array([o["bbox"] for o in many], float).reshape(-1, 4) for many in (detected, own))
                crowd = np.array([one.get("iscrowd", 0) for one in own], bool)
                scores, areas = (
                    np.array([o[key] for o in many], float) for many, key in ((detected, "score"), (own, "area"))
                )
                matches[number] = match_overlaps(
                    box_overlap(boxes, truths, crowd), scores, boxes[:, 2:].prod(axis=1), areas, crowd
                )
        images.append(matches)
    return CocoStatistics(images, [one["name"] for one in truth["categories"]])


def repeated(
    truth: dict[str, Any], results: list[dict[str, Any]], counts: np.ndarray
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The case with each image as often as ``counts`` says, as a bootstrap would write it down."""
    images, annotations, found = [], [], []
    for one, count in zip(truth["images"], counts.astype(int), strict=True):
        for _ in range(count):
            number = len(images) + 1
            images.append({**one, "id": number})
            for annotation in truth["annotations"]:
                if annotation["image_id"] == one["id"]:
                    annotations.append({**annotation, "id": len(annotations) + 1, "image_id": number})
            found += [{**result, "image_id": number} for result in results if result["image_id"] == one["id"]]
    return {**truth, "images": images, "annotations": annotations}, found


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), images=st.integers(1, 6))
def test_every_number_is_that_of_pycocotools(seed: int, images: int) -> None:
    truth, results = random_case(seed, images)
    found = point(statistics(truth, results))
    if not (truth["annotations"] and results):
        return
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = json.loads(json.dumps(truth))
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(json.loads(json.dumps(results))), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    expected = [None if value < 0 else value for value in evaluation.stats]
    assert [found[name] for name in NAMES] == [None if v is None else pytest.approx(v, abs=1e-9) for v in expected]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_draw_is_scored_as_if_its_images_were_written_down(seed: int) -> None:
    truth, results = random_case(seed, 5)
    # Equal scores have no order of their own: with several copies of an image it is not defined.
    results = [{**one, "score": (place + 1) / (len(results) + 1)} for place, one in enumerate(results)]
    counts = draws(5, 4, seed)
    found = statistics(truth, results).metrics(counts)
    for row, drawn in enumerate(counts):
        again, again_results = repeated(truth, results, drawn)
        expected = coco_metrics(again, again_results, classes=CLASSES)
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(np.nan if value is None else value, abs=1e-9, nan_ok=True), name


def test_cocos_own_example_has_its_published_numbers(real_data: Path) -> None:
    folder = real_data / "metric_vectors" / "coco"
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    results = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())["bbox"]
    found = point(statistics(truth, results))
    assert {name: found[name] for name in NAMES} == pytest.approx({name: expected[name] for name in NAMES}, abs=1e-9)


def test_a_curve_falls_and_ends_where_the_recall_does() -> None:
    truth, results = random_case(3, 6)
    scored = statistics(truth, results)
    precision, scores = scored.curve(0)
    assert len(precision) == len(RECALLS)
    assert (np.diff(precision) <= 0).all()
    assert (np.diff(scores) <= 0).all()
    assert precision.mean() == pytest.approx(point(scored)["AP50/car"])
    assert np.isnan(scored.curve(2)[0]).all()


def test_every_share_of_objects_found_reaches_the_recalls_that_cocos_search_says() -> None:
    shares = np.array([found / objects for objects in range(1, 400) for found in range(objects + 1)])
    assert (_recalls_reached(shares) == np.searchsorted(RECALLS, shares, side="right")).all()
