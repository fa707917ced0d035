import json

import numpy as np
import pytest

from trainer.__main__ import main

KINDS = {"bbox": "instances_val2014_fakebbox100_results.json", "segm": "instances_val2014_fakesegm100_results.json"}


@pytest.mark.parametrize("kind", KINDS)
def test_detection_scores_equal_cocos_published_reference(real_data, capsys, kind):
    folder = real_data / "metric_vectors" / "coco"
    truth, found = folder / "instances_val2014_100.json", folder / KINDS[kind]
    assert main(["score", "detection", "--ground-truth", str(truth), "--predictions", str(found)]) == 0
    scores = json.loads(capsys.readouterr().out)
    expected = json.loads((folder / "expected.json").read_text())[kind]
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_detection_equals_pycocotools_on_random_boxes(tmp_path, capsys):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, results = _random_detections(np.random.default_rng(3))
    paths = [tmp_path / "gt.json", tmp_path / "dt.json"]
    for path, value in zip(paths, (truth, results), strict=True):
        path.write_text(json.dumps(value))
    main(["score", "detection", "--ground-truth", str(paths[0]), "--predictions", str(paths[1])])
    scores = json.loads(capsys.readouterr().out)
    reference = COCO(str(paths[0]))
    evaluation = COCOeval(reference, reference.loadRes(str(paths[1])), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    ours = [scores[name] for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")]
    theirs = [None if value < 0 else value for value in evaluation.stats[:9].tolist()]
    assert ours == pytest.approx(theirs, abs=1e-9)


def _random_detections(rng: np.random.Generator):
    images = [{"id": i, "height": 200, "width": 200} for i in range(1, 21)]
    annotations, results = [], []
    for image in images:
        for _ in range(rng.integers(0, 6)):
            box = [float(v) for v in (*rng.uniform(0, 100, 2), *rng.uniform(8, 90, 2))]
            category = int(rng.integers(1, 4))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category, "bbox": box,
                 "area": box[2] * box[3], "iscrowd": 0}
            )  # fmt: skip
            moved = [float(v + rng.normal(0, 4)) for v in box]
            results.append(
                {"image_id": image["id"], "category_id": category, "bbox": moved, "score": float(rng.random())}
            )
    categories = [{"id": i, "name": n} for i, n in enumerate(("a", "b", "c"), start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}, results


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": float("nan")}, "1.score"),
        ({"category_id": 99}, "1.category_id"),
        ({"image_id": 99}, "1.image_id"),
        ({"bbox": [1, 2, 3]}, "1.bbox"),
        ({"bbox": ["1", 2, 3, 4]}, "1.bbox"),
        ({"bbox": 5}, "1.bbox"),
        ({"bbox": [1, 2, float("inf"), 3]}, "1.bbox"),
        ({"score": "0.5"}, "1.score"),
        ({"image_id": [1]}, "1.image_id"),
    ],
)
def test_a_bad_prediction_is_named_and_nothing_is_scored(tmp_path, capsys, change, said):
    truth, results = _random_detections(np.random.default_rng(3))
    results[1] |= change
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    arguments = ["--ground-truth", str(tmp_path / "gt.json"), "--predictions", str(tmp_path / "dt.json")]
    assert main(["score", "detection", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda truth: truth["categories"].append(truth["categories"][0]), "categories.3.id"),
        (lambda truth: truth["annotations"][1].update(id=truth["annotations"][0]["id"]), "annotations.1.id"),
        (lambda truth: truth["annotations"][1].pop("bbox"), "annotations.1.bbox"),
        (lambda truth: truth["annotations"][1].update(bbox=[float("nan"), 0, 1, 1]), "annotations.1.bbox"),
        (lambda truth: truth["annotations"].append(None), "annotations"),
        (lambda truth: truth["images"][0].update(id="one"), "images.0.id"),
        (lambda truth: truth["categories"][0].pop("name"), "categories.0.name"),
        (lambda truth: truth["categories"][1].update(name="a"), "categories.1.name"),
        (lambda truth: truth["annotations"][1].update(category_id=9), "annotations.1.category_id"),
        (lambda truth: truth["annotations"][1].pop("area"), "annotations.1.area"),
        (lambda truth: truth["annotations"][1].update(area=float("nan")), "annotations.1.area"),
        (lambda truth: truth["annotations"][1].update(iscrowd=2), "annotations.1.iscrowd"),
        (lambda truth: truth["images"].clear(), "images"),
    ],
)
def test_a_ground_truth_that_coco_could_not_score_is_named(tmp_path, capsys, spoil, said):
    truth, results = _random_detections(np.random.default_rng(3))
    spoil(truth)
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    arguments = ["--ground-truth", str(tmp_path / "gt.json"), "--predictions", str(tmp_path / "dt.json")]
    assert main(["score", "detection", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "mask", [None, [[0, 0, 9, 0, 9, 9]], {"size": [9, 9], "counts": [81]}, {"size": [9, 9], "counts": "9"}]
)
def test_a_predicted_mask_that_is_not_the_images_rle_is_named(real_data, tmp_path, capsys, mask):
    folder = real_data / "metric_vectors" / "coco"
    results = json.loads((folder / KINDS["segm"]).read_text())
    results[3]["segmentation"] = mask
    (tmp_path / "dt.json").write_text(json.dumps(results))
    truth = str(folder / "instances_val2014_100.json")
    assert main(["score", "detection", "--ground-truth", truth, "--predictions", str(tmp_path / "dt.json")]) == 2
    assert "3.segmentation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ([], "annotations.0.segmentation"),
        ([[1, 2]], "annotations.0.segmentation"),
        ([["a", 1, 2, 3, 4, 5]], "annotations.0.segmentation"),
        ({"size": [9, 9], "counts": [81]}, "annotations.0.segmentation.size"),
        ({"size": [200, 200], "counts": [81]}, "annotations.0.segmentation.counts"),
        ({"size": [200, 200]}, "annotations.0.segmentation"),
    ],
)
def test_a_true_mask_that_is_none_of_its_image_is_named(score, tmp_path, mask, said):
    truth, _ = _random_detections(np.random.default_rng(3))
    for one in truth["annotations"]:
        one["segmentation"] = [[0, 0, 9, 0, 9, 9]]
    truth["annotations"][0]["segmentation"] = mask
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text("[]")
    code, _, report = score("detection", tmp_path / "gt.json", tmp_path / "dt.json", "--iou-type", "segm")
    assert code == 2
    assert said in report


def test_a_ground_truth_without_objects_has_no_metrics(score, tmp_path):
    truth, results = _random_detections(np.random.default_rng(3))
    (tmp_path / "gt.json").write_text(json.dumps(truth | {"annotations": []}))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    code, found, _ = score("detection", tmp_path / "gt.json", tmp_path / "dt.json")
    assert code == 0
    assert set(found.values()) == {None}
