import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainer.__main__ import main


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


def test_a_predicted_mask_of_no_sample_is_named(score, tmp_path):
    mask = np.zeros((4, 4), np.uint8)
    truth, found = _masks(tmp_path / "gt", {"a": mask}), _masks(tmp_path / "dt", {"a": mask, "c": mask})
    code, _, report = score("segmentation", truth, found)
    assert code == 2
    assert "c.png" in report


def test_an_empty_ground_truth_is_an_error_and_one_without_scored_pixels_has_no_metrics(score, tmp_path):
    (tmp_path / "none").mkdir()
    assert score("segmentation", tmp_path / "none", tmp_path / "none")[0] == 2
    void = _masks(tmp_path / "gt", {"a": np.full((4, 4), 255, np.uint8)})
    found = score("segmentation", void, _masks(tmp_path / "dt", {"a": np.zeros((4, 4), np.uint8)}))[1]
    assert found == {"images": 1, "mIoU": None, "pixel_accuracy": None, "IoU/0": None}
