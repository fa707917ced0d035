import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from trainer.contract.errors import ContractError
from trainer.evaluation.score.slicing import read_attributes


def write_slices(path: Path, *slices: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({"slices": list(slices)}))
    return path


def write_table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def masks(tmp_path: Path) -> tuple[Path, Path]:
    """Twelve masks of three classes, and predictions of them that are right in 2 + i of mask i's 20 pixels."""
    rng = np.random.default_rng(5)
    folders = tmp_path / "gt", tmp_path / "dt"
    for folder in folders:
        folder.mkdir()
    for number in range(12):
        truth = rng.integers(0, 3, (4, 5), np.uint8)
        wrong = np.arange(20).reshape(4, 5) >= 2 + number
        for folder, mask in zip(folders, (truth, np.where(wrong, (truth + 1) % 3, truth)), strict=True):
            cv2.imwrite(str(folder / f"{number:02d}.png"), mask.astype(np.uint8))
    return folders


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """The first four masks were taken at night, 05 to 11 by day; of 04 nothing is known."""
    times = [(number, "night" if number < 4 else "day") for number in range(12) if number != 4]
    return write_table(tmp_path / "attributes.csv", "file,time,speed", *(f"{n:02d}.png,{t},{n}" for n, t in times))


DAY = {"name": "day", "where": {"attributes.time": "day"}, "min_samples": 5}
NIGHT = {"name": "night", "where": {"attributes.time": "night"}, "min_samples": 5}
FAST_NIGHT = {"name": "fast night", "where": {"attributes.time": "night", "attributes.speed": {"min": 2}}}
SNOW = {"name": "snow", "where": {"attributes.time": "snow"}, "min_samples": 1}


def test_each_slice_has_its_samples_metrics_and_intervals(score, masks, night, tmp_path) -> None:
    slices = write_slices(tmp_path / "slices.yaml", DAY, NIGHT, FAST_NIGHT)
    code, found, report = score("segmentation", *masks, "--slices", slices, "--attributes", night)
    assert code == 0, report
    assert (found["task"], found["samples"], found["without_attributes"]) == ("segmentation", 12, 1)
    assert (found["resamples"], found["level"]) == (1000, 0.95)
    assert found["metrics"]["pixel_accuracy"] == pytest.approx(np.mean([2 + n for n in range(12)]) / 20)
    numbers = {"day": [*range(5, 12)], "night": [0, 1, 2, 3], "fast night": [2, 3]}
    for name, own in numbers.items():
        one = found["slices"][name]
        assert one["samples"] == len(own)
        assert one["metrics"]["pixel_accuracy"] == pytest.approx(np.mean([2 + n for n in own]) / 20)
        assert one["metrics"].keys() == one["intervals"].keys() == found["metrics"].keys()
        low, high = one["intervals"]["pixel_accuracy"]
        assert (2 + min(own)) / 20 <= low < one["metrics"]["pixel_accuracy"] < high <= (2 + max(own)) / 20


def test_a_slice_of_few_samples_says_so_and_an_empty_one_has_no_metrics(score, masks, night, tmp_path) -> None:
    slices = write_slices(tmp_path / "slices.yaml", DAY, NIGHT, SNOW)
    found = score("segmentation", *masks, "--slices", slices, "--attributes", night)[1]["slices"]
    assert {name: (one["samples"], one["min_samples"], one["enough_samples"]) for name, one in found.items()} == {
        "day": (7, 5, True), "night": (4, 5, False), "snow": (0, 1, False),
    }  # fmt: skip
    assert set(found["snow"]["metrics"].values()) == set(found["snow"]["intervals"].values()) == {None}


def test_a_slices_metrics_are_those_of_its_files_alone(score, masks, night, tmp_path) -> None:
    slices = write_slices(tmp_path / "slices.yaml", NIGHT)
    sliced = score("segmentation", *masks, "--slices", slices, "--attributes", night, "--classes", 3)[1]
    for folder in masks:
        for number in range(4, 12):
            (folder / f"{number:02d}.png").unlink()
    alone = score("segmentation", *masks, "--classes", 3)[1]
    assert {"images": 4, **sliced["slices"]["night"]["metrics"]} == pytest.approx(alone)


KINDS = {"bbox": "instances_val2014_fakebbox100_results.json", "segm": "instances_val2014_fakesegm100_results.json"}


@pytest.fixture
def coco(real_data: Path) -> Path:
    return real_data / "metric_vectors" / "coco"


@pytest.mark.parametrize("kind", KINDS)
def test_slices_of_detections_have_the_numbers_of_the_whole_and_of_their_images_alone(
    score, coco: Path, tmp_path: Path, kind: str
) -> None:
    truth, results = (json.loads((coco / name).read_text()) for name in ("instances_val2014_100.json", KINDS[kind]))
    # Few classes and few objects: the bootstrap of all 80 takes its time.
    chosen = sorted({one["category_id"] for one in truth["annotations"]})[1:3]
    truth["categories"] = [one for one in truth["categories"] if one["id"] in chosen]
    truth["annotations"] = [one for one in truth["annotations"] if one["category_id"] in chosen]
    results = [one for one in results if one["category_id"] in chosen]
    odd = {image["id"] for image in truth["images"] if image["id"] % 2}
    rows = [f"{image['id']},{image['id'] % 2}" for image in truth["images"]]
    table = write_table(tmp_path / "attributes.csv", "image,odd", *rows)
    slices = write_slices(tmp_path / "slices.yaml", {"name": "odd", "where": {"attributes.odd": 1}})
    files = []
    for name, value in (("gt", truth), ("dt", results)):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(value))
    code, found, report = score("detection", *files, "--slices", slices, "--attributes", table)
    assert code == 0, report
    assert found["metrics"] == pytest.approx(score("detection", *files)[1], abs=1e-9)
    truth["images"] = [one for one in truth["images"] if one["id"] in odd]
    truth["annotations"] = [one for one in truth["annotations"] if one["image_id"] in odd]
    for path, value in zip(files, (truth, [one for one in results if one["image_id"] in odd]), strict=True):
        path.write_text(json.dumps(value))
    assert found["slices"]["odd"]["samples"] == len(odd)
    assert found["slices"]["odd"]["metrics"] == pytest.approx(score("detection", *files)[1], abs=1e-9)


def test_slices_of_detections_may_ask_for_boxes(score, tmp_path: Path) -> None:
    truth = {
        "images": [{"id": number, "file_name": f"seq/{number}.jpg"} for number in (1, 2, 3)],
        "categories": [{"id": 7, "name": "car"}, {"id": 8, "name": "tram"}],
        "annotations": [
            {"id": number, "image_id": image, "category_id": 7, "bbox": [0, 0, 9, 9], "area": 81}
            for number, image in enumerate((1, 1, 2), start=1)
        ],
    }
    results = [{"image_id": image, "category_id": 7, "bbox": [0, 0, 9, 9], "score": 0.5} for image in (1, 2)]
    for name, value in (("gt", truth), ("dt", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    files = tmp_path / "gt.json", tmp_path / "dt.json"
    slices = write_slices(
        tmp_path / "slices.yaml",
        {"name": "cars", "where": {"labels.boxes.car": {"min": 1}}},
        {"name": "crowds", "where": {"labels.boxes": {"min": 2}}},
        {"name": "trams", "where": {"labels.boxes.tram": {"min": 1}}},
    )
    found = score("detection", *files, "--slices", slices)[1]
    assert {name: one["samples"] for name, one in found["slices"].items()} == {"cars": 2, "crowds": 1, "trams": 0}
    assert found["slices"]["crowds"]["metrics"]["AR100"] == pytest.approx(0.5)
    truth["annotations"][0]["id"] = 0
    files[0].write_text(json.dumps(truth))
    code, _, report = score("detection", *files, "--slices", slices)
    assert (code, "annotations.0.id" in report) == (2, True)
    slices = write_slices(tmp_path / "slices.yaml", {"name": "bikes", "where": {"labels.boxes.bike": 1}})
    truth["annotations"][0]["id"] = 9
    files[0].write_text(json.dumps(truth))
    code, _, report = score("detection", *files, "--slices", slices)
    assert code == 2
    assert "labels.boxes.bike" in report


def test_lanes_and_trajectories_are_sliced_by_file_and_by_id(score, tmp_path: Path) -> None:
    lanes = tmp_path / "lanes.json"
    frames = [{"raw_file": f"clips/{n}/20.jpg", "h_samples": [300, 400], "lanes": [[9, 9]]} for n in range(3)]
    lanes.write_text("\n".join(map(json.dumps, frames)))
    paths = tmp_path / "paths.json"
    paths.write_text(json.dumps({f"clips/{n}/20.jpg": {"gt": [[0, 0]], "pred": [[[n, 0]]]} for n in range(3)}))
    table = write_table(tmp_path / "a.csv", "split,raw_file,wet", *(f"val,clips/{n}/20.jpg,{n > 0}" for n in range(3)))
    slices = write_slices(tmp_path / "slices.yaml", {"name": "wet", "where": {"attributes.wet": True}})
    options = ("--slices", slices, "--attributes", table)
    wet = score("lanes", lanes, lanes, *options)[1]["slices"]["wet"]
    assert (wet["samples"], wet["metrics"]["accuracy"], wet["intervals"]["F1"]) == (2, 1.0, [1.0, 1.0])
    wet = score("trajectory", paths, paths, *options)[1]["slices"]["wet"]
    assert (wet["samples"], wet["metrics"]["ADE"]) == (2, pytest.approx(1.5))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["file,time", "00.png,day", "99.png,day"], ["attributes.csv:3", "'99.png'", "like '00.png'"]),
        (["file,time", "00.png,day", "00,night"], ["attributes.csv:3", "also on line 2"]),
        (["file,time", "00.png,day,fog"], ["attributes.csv:2", "2 cells"]),
        (["file,time", "x,day"], ["attributes.csv:2", "'x'"]),
        (["file,time"], ["no rows"]),
        (["file,when", "00,day"], ["slices.yaml", "attributes.time", "attributes.when"]),
    ],
)
def test_a_table_that_does_not_fit_is_refused(score, masks, tmp_path, rows, said) -> None:
    table, slices = write_table(tmp_path / "attributes.csv", *rows), write_slices(tmp_path / "slices.yaml", DAY)
    code, found, report = score("segmentation", *masks, "--slices", slices, "--attributes", table)
    assert (code, found) == (2, {})
    assert all(part in report for part in said), report


@pytest.mark.parametrize(
    ("slices", "options", "said"),
    [
        ([DAY], [], "attributes.time"),
        ([], ["--attributes"], "no slices"),
        ([{"name": "few", "where": {"labels.lanes": 0}}], ["--attributes"], "labels.lanes"),
    ],
)
def test_slices_that_nothing_can_answer_are_refused(score, masks, night, tmp_path, slices, options, said) -> None:
    path = write_slices(tmp_path / "slices.yaml", *slices)
    code, _, report = score("segmentation", *masks, "--slices", path, *[part for o in options for part in (o, night)])
    assert code == 2
    assert said in report


def test_attributes_alone_are_refused(score, masks, night) -> None:
    code, _, report = score("segmentation", *masks, "--attributes", night)
    assert code == 2
    assert "--slices" in report


def test_the_column_that_names_samples_is_found_by_its_name_or_comes_first(tmp_path: Path) -> None:
    """CamVid's table has an id in front and paths under ``image``; an index in front must not be taken for ids."""
    names = [("a.png", "a"), ("b.png", "b"), ("1",)]
    camvid = write_table(tmp_path / "camvid.csv", "id,image,time", "a,train/a.jpg,day", "b,train/b.jpg,dusk")
    assert read_attributes(camvid, names)[1][1] == {"image": "train/b.jpg", "time": "dusk"}
    indexed = write_table(tmp_path / "indexed.csv", "index,name,time", "1,b,dusk")
    assert read_attributes(indexed, names)[1] == {1: {"index": 1, "time": "dusk"}}


def test_a_column_of_numbers_or_truths_holds_them_and_any_other_text(tmp_path: Path) -> None:
    table = write_table(
        tmp_path / "a.csv", "n,speed,rain,wet,scene,code", "a,3,0.5,true,7,01", "b,,2,FALSE,nan,x", "c,4,,,,"
    )
    found = read_attributes(table, [("a",), ("b",), ("c",)])[1]
    assert found == {
        0: {"speed": 3, "rain": 0.5, "wet": True, "scene": "7", "code": "01"},
        1: {"rain": 2.0, "wet": False, "scene": "nan", "code": "x"},
        2: {"speed": 4},
    }


def test_a_name_of_two_samples_is_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.csv", "image,time", "2,day")
    with pytest.raises(ContractError, match="a name of one sample"):
        read_attributes(table, [("1.jpg", "1", "2"), ("2.jpg", "2", "1")])
