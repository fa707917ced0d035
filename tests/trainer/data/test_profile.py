"""Features of samples, and the profile of a delivery."""

import json

import cv2
import numpy as np
import pytest

from trainer.contract.delivery import read_delivery
from trainer.contract.manifest import Row
from trainer.contract.reference_profile import read_profile
from trainer.contract.slices import parse_slices
from trainer.data.features import column, image_features, sample_features
from trainer.data.profile import spread, write_profile

SLICES = parse_slices({"labels": {"semantic": {"classes": ["road", "car"], "ignore_id": 255}, "boxes": ["car"]}})


def row(**labels: object) -> Row:
    common = {"sample_id": "a", "source-ref": "a.png", "sha256": "0" * 64, "captured_at": "2026-01-05T00:00:00Z"}
    return Row.model_validate({**common, "licence": "CC0-1.0", "origin": "test", **labels})


def test_image_features_are_those_of_the_pixels():
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, 32:] = (200, 100, 50)
    found = image_features(half)
    assert (found["red"], found["green"], found["blue"]) == (100, 50, 25)
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    assert found["brightness"] == pytest.approx(luma / 2)
    assert found["contrast"] == pytest.approx(luma / 2)


def test_blur_lowers_sharpness_and_little_else_and_darkness_lowers_brightness():
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    sharp, blurred, dark = map(image_features, (image, cv2.GaussianBlur(image, (5, 5), 2), image // 4))
    assert blurred["sharpness"] < sharp["sharpness"] - 2
    assert blurred["brightness"] == pytest.approx(sharp["brightness"], rel=0.01)
    assert dark["brightness"] == pytest.approx(sharp["brightness"] / 4, rel=0.02)


def test_labels_are_counted_and_what_was_not_annotated_is_not_there():
    mask = np.array([[0, 0, 1, 255]], np.uint8)
    image = np.zeros((4, 4, 3), np.uint8)
    boxes = [{"category": "car", "bbox": [0, 0, 1, 1], "ignore": ignore} for ignore in (False, True, False)]
    found = sample_features(image, mask, row(boxes=boxes), SLICES)
    assert (found["boxes"], found["boxes.car"]) == (2, 2)
    assert found["semantic.car"] == pytest.approx(1 / 3)
    none = sample_features(image, None, row(boxes=[]), SLICES)
    absent = sample_features(image, None, row(), SLICES)
    assert column([found, none, absent], "boxes.car") == [2, 0]
    assert column([found, none, absent], "semantic.car") == [pytest.approx(1 / 3)]


def test_a_large_split_is_sampled_evenly():
    assert spread(10, 5) == {0, 2, 4, 6, 8}
    assert spread(10, 20) == set(range(10))


@pytest.mark.slow
def test_the_profile_of_a_delivery_has_its_features_and_evidentlys_pages(delivery, tmp_path):
    write_profile(delivery, tmp_path, print)
    profile = read_profile(tmp_path / "reference_profile.json")
    assert profile.samples == 48
    assert set(profile.distances) == {"val", "test"}
    assert profile.features["boxes.car"].mean == 1
    images = [cv2.imread(str(delivery / r.source_ref)) for r in read_delivery(delivery).rows["train"]]
    assert profile.features["blue"].mean == pytest.approx(np.mean([image[..., 0].mean() for image in images]), rel=1e-6)
    for split in ("val", "test"):
        assert "brightness" in (tmp_path / f"drift_{split}.html").read_text()
        assert profile.distances[split]["brightness"] > 0
    json.loads((tmp_path / "reference_profile.json").read_text())
