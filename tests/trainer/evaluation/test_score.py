import json
from pathlib import Path

import cv2
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


def _masks(folder: Path, masks: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    for name, mask in masks.items():
        cv2.imwrite(str(folder / f"{name}.png"), mask)
    return folder


def test_segmentation_equals_an_independent_implementation_on_camvid_masks(real_data, tmp_path, capsys):
    """torchmetrics' MulticlassJaccardIndex on twelve real masks, predictions made by shifting the truth."""
    import torch
    from torchmetrics.classification import MulticlassJaccardIndex

    paths = sorted((real_data / "camvid" / "valannot").glob("*.png"))[:12]
    truth = {path.stem: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths}
    found = {name: np.where(np.roll(mask, 9, 1) == 11, 3, np.roll(mask, 9, 1)) for name, mask in truth.items()}
    folders = [_masks(tmp_path / "gt", truth), _masks(tmp_path / "dt", found)]
    main(["score", "segmentation", "--ground-truth", str(folders[0]), "--predictions", str(folders[1]),
          "--ignore", "11", "--classes", "11"])  # fmt: skip
    scores = json.loads(capsys.readouterr().out)
    reference = MulticlassJaccardIndex(num_classes=12, average="none", ignore_index=11)
    for name, mask in truth.items():
        reference.update(torch.from_numpy(found[name]).long(), torch.from_numpy(mask).long())
    expected = reference.compute()[:11].tolist()
    assert [scores[f"IoU/{c}"] for c in range(11)] == pytest.approx(expected, abs=1e-6)
    assert scores["mIoU"] == pytest.approx(float(np.mean(expected)), abs=1e-6)


def test_a_missing_and_an_oversized_mask_are_named(tmp_path, capsys):
    mask = np.zeros((4, 4), np.uint8)
    truth = _masks(tmp_path / "gt", {"a": mask, "b": mask})
    found = _masks(tmp_path / "dt", {"a": np.zeros((5, 4), np.uint8)})
    assert main(["score", "segmentation", "--ground-truth", str(truth), "--predictions", str(found)]) == 2
    assert "b.png" in capsys.readouterr().err
    _masks(tmp_path / "dt2", {"a": np.zeros((5, 4), np.uint8), "b": mask})
    arguments = ["--ground-truth", str(truth), "--predictions", str(tmp_path / "dt2")]
    assert main(["score", "segmentation", *arguments]) == 2
    assert "a.png" in capsys.readouterr().err


def _segmentation_scores(capsys, tmp_path, *options: str) -> tuple[int, dict]:
    folders = ["--ground-truth", str(tmp_path / "gt"), "--predictions", str(tmp_path / "dt")]
    code = main(["score", "segmentation", *folders, *options])
    return code, json.loads(capsys.readouterr().out or "{}")


def test_masks_of_16_bits_or_one_bit_are_refused(tmp_path, capsys):
    (tmp_path / "gt").mkdir()
    cv2.imwrite(str(tmp_path / "gt/a.png"), np.full((4, 4), 700, np.uint16))
    cv2.imwrite(str(tmp_path / "gt/b.png"), np.ones((4, 4), np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1])
    _masks(tmp_path / "dt", {"a": np.zeros((4, 4), np.uint8), "b": np.zeros((4, 4), np.uint8)})
    assert _segmentation_scores(capsys, tmp_path) == (2, {})


def test_ignored_pixels_never_count_even_where_255_is_a_class(tmp_path, capsys):
    _masks(tmp_path / "gt", {"a": np.array([[0, 0], [1, 255]], np.uint8)})
    _masks(tmp_path / "dt", {"a": np.array([[1, 1], [1, 255]], np.uint8)})
    code, scores = _segmentation_scores(capsys, tmp_path, "--ignore", "0")
    assert (code, scores["mIoU"], scores["pixel_accuracy"]) == (0, 1.0, 1.0)


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
