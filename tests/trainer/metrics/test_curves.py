import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import roc_auc_score, roc_curve

from trainer.metrics.calibration import binned
from trainer.metrics.coco_statistics import CocoStatistics, match
from trainer.metrics.curves import precision_recall, reliability_curve, roc_curves
from trainer.metrics.roc import BINS, chance_histogram


def images(seed: int):
    """Per image: boxes, scores and classes found, and objects with their classes; of class 2 there are no objects."""
    rng = np.random.default_rng(seed)
    for _ in range(12):
        truth = np.concatenate([rng.uniform(0, 200, (5, 2)), rng.uniform(20, 60, (5, 2))], axis=1)
        boxes = np.concatenate([truth + rng.normal(0, 3, truth.shape), truth + rng.normal(0, 30, truth.shape)]).clip(1)
        yield boxes, rng.random(10), rng.integers(0, 3, 10), truth, rng.integers(0, 2, 5)


def test_a_precision_recall_curve_is_that_of_pycocotools():
    records, truths, results = [], [], []
    for number, (boxes, scores, classes, truth, kinds) in enumerate(images(1), start=1):
        records.append({
            kind: match(boxes[classes == kind], scores[classes == kind], truth[kinds == kind],
                        np.zeros((kinds == kind).sum(), bool))
            for kind in range(3)
        })  # fmt: skip
        truths += [
            {"image_id": number, "category_id": int(kind), "bbox": box.tolist(), "area": float(box[2] * box[3]),
             "iscrowd": 0} for box, kind in zip(truth, kinds, strict=True)
        ]  # fmt: skip
        results += [
            {"image_id": number, "category_id": int(kind), "bbox": box.tolist(), "score": float(score)}
            for box, score, kind in zip(boxes, scores, classes, strict=True)
        ]
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {
            "images": [{"id": number} for number in range(1, 13)],
            "categories": [{"id": number} for number in range(3)],
            "annotations": [{**one, "id": place} for place, one in enumerate(truths, start=1)],
        }
        reference.createIndex()
        evaluation = COCOeval(reference, reference.loadRes(json.loads(json.dumps(results))), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    expected = evaluation.eval["precision"][0, :, :, 0, -1].T
    curves = precision_recall(CocoStatistics(records, ("a", "b", "c")))
    assert [line.name for line in curves.lines] == ["a", "b"], "class c has no objects"
    for line, precision in zip(curves.lines, expected, strict=False):
        assert line.x == tuple(round(recall, 4) for recall in np.linspace(0, 1, 101))
        assert line.y == pytest.approx(precision, abs=1e-4)
        assert line.summary == pytest.approx(precision.mean(), abs=1e-9)


def test_a_roc_curve_is_that_of_scikit_learn_for_chances_a_bin_apart():
    rng = np.random.default_rng(2)
    positive = rng.random(400) < 0.3
    chances = 1 / (1 + np.exp(9.5 - (rng.integers(0, 14, 400) + 6 * positive)))
    curves = roc_curves(np.stack([chance_histogram(chances, positive), np.zeros((2, BINS), int)]), ("car", "none"))
    (line,) = curves.lines
    assert line.name == "car"
    assert line.summary == pytest.approx(roc_auc_score(positive, chances), abs=1e-9)
    false, true, _ = roc_curve(positive, chances, drop_intermediate=False)
    ours = set(zip(line.x, line.y, strict=True))
    assert {(round(x, 4), round(y, 4)) for x, y in zip(false, true, strict=True)} <= ours


def test_the_area_of_a_rare_class_is_near_that_without_bins():
    rng = np.random.default_rng(4)
    positive = rng.random(20_000) < 0.01
    chances = 1 / (1 + np.exp(5 - rng.normal(0, 1, 20_000) - 2 * positive))
    (line,) = roc_curves(chance_histogram(chances, positive)[None], ("pedestrian",)).lines
    assert line.summary == pytest.approx(roc_auc_score(positive, chances), abs=0.02)


def test_the_points_of_a_reliability_diagram_add_up_to_its_error():
    rng = np.random.default_rng(3)
    samples = [(chances := rng.random(50), rng.random(50) < chances**2) for _ in range(8)]
    (line,) = reliability_curve([binned(*sample) for sample in samples]).lines
    assert line.predictions is not None
    assert sum(line.predictions) == 400
    apart = sum(n * abs(x - y) for n, x, y in zip(line.predictions, line.x, line.y, strict=True)) / 400
    assert line.summary == pytest.approx(apart, abs=1e-3)
    assert line.summary > 0.1, "the chances are far too sure of themselves"
    everything = [np.concatenate(part) for part in zip(*samples, strict=True)]
    (together,) = reliability_curve([binned(*everything)]).lines
    assert (together.x, together.y, together.predictions) == (line.x, line.y, line.predictions)


def test_nothing_to_draw_is_no_line_and_no_error():
    assert precision_recall(CocoStatistics([], ("car",))).lines == ()
    assert roc_curves(np.zeros((1, 2, 20), int), ("car",)).lines == ()
    assert reliability_curve([]).lines == ()
