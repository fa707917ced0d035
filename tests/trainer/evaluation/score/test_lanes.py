import json
from pathlib import Path
from typing import Any

import pytest

HEIGHTS = list(range(240, 720, 10))


def upright(x: float, first: int = 0) -> list[float]:
    return [-2] * first + [x] * (len(HEIGHTS) - first)


def frame(name: str, *lanes: list[float], **more: Any) -> dict[str, Any]:
    return {"raw_file": f"clips/{name}/20.jpg", "h_samples": HEIGHTS, "lanes": list(lanes), **more}


def write(path: Path, *frames: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in frames))
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    return write(tmp_path / "gt.json", frame("a", upright(300), upright(600, 4)), frame("b", upright(900)))


def test_the_ground_truth_scores_perfectly_against_itself(score, real_data: Path, tmp_path: Path) -> None:
    lines = (real_data / "tusimple" / "train_label.json").read_text().splitlines()[:5]
    (tmp_path / "gt.json").write_text("\n".join(lines))
    code, found, _ = score("lanes", tmp_path / "gt.json", tmp_path / "gt.json")
    perfect = {"accuracy": 1.0, "FP": 0.0, "FN": 0.0, "F1": 1.0, "precision": 1.0, "recall": 1.0}
    assert (code, found) == (0, {"images": 5, "images_without_lanes": 0, **perfect})


def test_real_labels_moved_about_score_as_the_official_codes_say(score, real_data: Path, tmp_path: Path) -> None:
    """lane.py of tusimple-benchmark (365c4cd) and culane_metric.py of LaneATT (8b4cb6d) were run on the same files."""
    lines = (real_data / "tusimple" / "train_label.json").read_text().splitlines()[:20]
    frames = [json.loads(line) for line in lines]
    for number, one in enumerate(frames):
        shifts = [(7 * number + 5 * place) % 8 * 4 - 12 for place in range(len(one["lanes"]))]
        moved = [[x + by if x >= 0 else x for x in xs] for xs, by in zip(one["lanes"], shifts, strict=True)]
        one["lanes"] = moved[number % 5 == 0 :]
    (tmp_path / "gt.json").write_text("\n".join(lines))
    found = score("lanes", tmp_path / "gt.json", write(tmp_path / "dt.json", *frames))[1]
    assert (found["accuracy"], found["FP"], found["FN"]) == pytest.approx((0.9515625, 0, 0.05), abs=1e-12)
    hits, false, missed = 73, 3, 7
    assert (found["precision"], found["recall"]) == pytest.approx((hits / (hits + false), hits / (hits + missed)))
    assert found["F1"] == pytest.approx(2 * hits / (2 * hits + false + missed))


def test_both_protocols_judge_the_same_lanes(score, truth: Path, tmp_path: Path) -> None:
    """Of four predicted lanes one is 12 pixels off: near enough for TuSimple, half a lane's width for CULane."""
    predicted = write(
        tmp_path / "dt.json",
        frame("b", upright(912), upright(100), run_time=10),
        frame("a", upright(300), upright(600, 4), run_time=10),
    )
    code, found, _ = score("lanes", truth, predicted)
    assert code == 0
    assert (found["accuracy"], found["FP"], found["FN"]) == (1.0, 0.25, 0.0)
    assert (found["precision"], found["recall"]) == (pytest.approx(2 / 4), pytest.approx(2 / 3))


def test_the_size_of_the_images_decides_where_lanes_are_drawn(score, truth: Path) -> None:
    assert score("lanes", truth, truth, "--size", "200x720")[1]["F1"] == 0.0
    assert score("lanes", truth, truth)[1]["F1"] == 1.0


def test_an_image_that_took_too_long_finds_nothing(score, truth: Path, tmp_path: Path) -> None:
    predicted = write(
        tmp_path / "dt.json",
        frame("a", upright(300), upright(600, 4), run_time=201),
        frame("b", upright(900), run_time=200),
    )
    found = score("lanes", truth, predicted)[1]
    assert (found["accuracy"], found["FN"]) == (0.5, 0.5)


def test_images_without_lanes_are_told_and_a_file_of_them_has_no_accuracy(score, tmp_path: Path) -> None:
    truth = write(tmp_path / "gt.json", frame("a"))
    found = score("lanes", truth, truth)[1]
    assert (found["images_without_lanes"], found["accuracy"], found["F1"], found["FP"]) == (1, None, None, 0.0)


GOOD_A, GOOD_B = frame("a", upright(300)), frame("b", upright(900))


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([GOOD_A], ["dt.json field 'raw_file'", "clips/b/20.jpg", "gt.json:2"]),
        ([GOOD_A, GOOD_B, frame("c")], ["dt.json:3", "raw_file", "clips/c/20.jpg"]),
        ([GOOD_A, GOOD_B, GOOD_A], ["dt.json:3", "raw_file", "also on line 1"]),
        ([frame("a", [float("nan")] * 48), GOOD_B], ["dt.json:1", "lanes.0.0", "finite"]),
        ([frame("a", [float("inf")] * 48), GOOD_B], ["dt.json:1", "lanes.0.0", "finite"]),
        ([frame("a", upright(300), [1, 2]), GOOD_B], ["dt.json:1", "lanes.1", "2 values", "48"]),
        ([frame("a", ["1"] * 48), GOOD_B], ["dt.json:1", "lanes.0.0"]),
        ([GOOD_A | {"h_samples": [h + 1 for h in HEIGHTS]}, GOOD_B], ["dt.json:1", "h_samples"]),
        ([GOOD_A | {"run_time": float("nan")}, GOOD_B], ["dt.json:1", "run_time"]),
        ([{"raw_file": "clips/a/20.jpg"}, GOOD_B], ["dt.json:1", "lanes", "nothing"]),
    ],
)
def test_a_bad_prediction_is_named_and_nothing_is_scored(score, truth: Path, tmp_path: Path, frames, said) -> None:
    code, found, report = score("lanes", truth, write(tmp_path / "dt.json", *frames))
    assert (code, found) == (2, {})
    assert all(part in report for part in said), report


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_ground_truth_is_an_error(score, tmp_path: Path, text: str) -> None:
    (tmp_path / "gt.json").write_text(text)
    code, found, report = score("lanes", tmp_path / "gt.json", tmp_path / "gt.json")
    assert (code, found) == (2, {})
    assert "gt.json" in report


def test_a_line_that_is_no_json_is_named(score, truth: Path, tmp_path: Path) -> None:
    (tmp_path / "dt.json").write_text(json.dumps(GOOD_A) + "\n{\n")
    code, _, report = score("lanes", truth, tmp_path / "dt.json")
    assert code == 2
    assert "dt.json:2" in report


@pytest.mark.parametrize("size", ["1280", "0x720", "axb", "1280x720x3", "-1x5"])
def test_a_size_that_is_none_is_refused(score, truth: Path, capsys, size: str) -> None:
    with pytest.raises(SystemExit):
        score("lanes", truth, truth, f"--size={size}")
    assert "--size" in capsys.readouterr().err
