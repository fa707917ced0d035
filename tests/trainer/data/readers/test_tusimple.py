"""TuSimple lanes → delivery: points, splits, and the real labels on their real masks."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.readers.tusimple import Label, _points

HEIGHTS = [240, 250, 260, 270]


def label(raw_file: str, *lanes: list[int], heights: list[int] = HEIGHTS) -> dict[str, Any]:
    return {"lanes": list(lanes), "h_samples": heights, "raw_file": raw_file}


class Source:
    """Label files of a data set; ``add`` draws the image of each line."""

    def __init__(self, root: Path, draw) -> None:
        self.root, self.draw = root, draw
        self.files: dict[str, list[dict[str, Any]]] = {}

    def add(self, file: str, *clips: str, part: str = "") -> None:
        for clip in clips:
            raw_file = f"clips/{clip}/20.jpg"
            self.draw(self.root / part / raw_file)
            self.files.setdefault(file, []).append(label(raw_file, [-2, 632, 625, 617], [719, 734, -2, -2]))

    def write(self) -> Path:
        for name, lines in self.files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return self.root


@pytest.fixture
def source(tmp_path, draw) -> Source:
    source = Source(tmp_path / "tusimple", draw)
    source.add("label_data_0313.json", *(f"0313-1/{number}" for number in range(60, 260, 20)))
    source.add("label_data_0601.json", *(f"0601/149445{number}" for number in range(5)))
    return source


def ids(delivery, split):
    return {row.sample_id for row in delivery.rows[split]}


def row_of(delivery, sample_id):
    return next(row for _, row in delivery.all_rows() if row.sample_id == sample_id)


def test_lanes_are_the_points_that_there_are(source, imported):
    row = row_of(imported("tusimple", source.write()), "0313-1-60-20")
    assert row.lanes == (((632, 250), (625, 260), (617, 270)), ((719, 240), (734, 250)))
    assert row.boxes is None
    assert row.attributes == {"drive": "0313-1"}
    assert (row.licence, row.origin, row.captured_at_source) == ("unstated", "tusimple", "assigned")


def test_the_published_files_decide_the_split(source, imported):
    source.add("label_data_0531.json", "0531/1", "0531/2")
    source.add("test_label.json", "0530/1", "0530/2")
    (source.root / "test_tasks_0627.json").write_text("not read")
    delivery = imported("tusimple", source.write())
    assert ids(delivery, "val") == {"0531-1-20", "0531-2-20"}
    assert ids(delivery, "test") == {"0530-1-20", "0530-2-20"}
    assert len(ids(delivery, "train")) == 15


def test_what_lacks_is_cut_from_the_end_of_each_drive(source, imported):
    delivery = imported("tusimple", source.write())
    assert ids(delivery, "test") == {"0313-1-220-20", "0313-1-240-20", "0601-1494454-20"}
    assert ids(delivery, "val") == {"0313-1-200-20", "0601-1494453-20"}
    assert len(ids(delivery, "train")) == 10


def test_train_and_test_may_lie_apart(tmp_path, draw, imported):
    source = Source(tmp_path / "tusimple", draw)
    source.add("train_set/label_data_0313.json", "0313-1/60", "0313-1/80", part="train_set")
    source.add("train_set/label_data_0531.json", "0531/1", part="train_set")
    source.add("test_label.json", "0530/1", part="test_set")
    assert {split: len(rows) for split, rows in imported("tusimple", source.write()).rows.items()} == {
        "train": 2,
        "val": 1,
        "test": 1,
    }


def test_a_lane_of_one_point_is_left_out_and_counted(source, imported, capsys):
    source.files["label_data_0313.json"][0]["lanes"] += [[-2, 5, -2, -2], [-2, -2, -2, -2]]
    delivery = imported("tusimple", source.write())
    assert len(row_of(delivery, "0313-1-60-20").lanes) == 2
    assert "left out 2 lanes" in capsys.readouterr().out


def test_slices_are_by_the_number_of_lanes(source, imported):
    source.files["label_data_0313.json"][0]["lanes"] = [[1, 2, 3, 4]] * 5
    source.files["label_data_0313.json"][1]["lanes"] = [[1, 2, 3, 4]] * 4
    delivery = imported("tusimple", source.write())
    counts = {one.name: sum(one.holds(row) for _, row in delivery.all_rows()) for one in delivery.slices.slices}
    assert counts == {"up to three lanes": 13, "four lanes": 1, "five lanes": 1}


def spoil(source: Source) -> None:
    lines = source.files["label_data_0313.json"]
    lines[0]["lanes"][1] = [1, 2, 3]
    lines[1].pop("h_samples")
    lines[2]["raw_file"] = "clips/../../outside.jpg"
    lines[3]["lanes"][0][0] = "x"


def test_all_that_is_bad_comes_in_one_report(source, refused):
    spoil(source)
    with open(source.write() / "label_data_0601.json", "a") as stream:
        stream.write("{half a line\n")
    assert {(Path(problem.file).name, problem.line, problem.field) for problem in refused("tusimple", source.root)} == {
        ("label_data_0313.json", 1, "lanes.1"),
        ("label_data_0313.json", 2, "h_samples"),
        ("label_data_0313.json", 3, "raw_file"),
        ("label_data_0313.json", 4, "lanes.0.0"),
        ("label_data_0601.json", 6, None),
    }


def test_what_is_bad_can_be_left_out_and_is_counted(source, imported, capsys):
    spoil(source)
    delivery = imported("tusimple", source.write(), "--skip-bad")
    assert sum(map(len, delivery.rows.values())) == 11
    assert "left out 4 bad" in capsys.readouterr().out


def test_a_clip_labelled_twice_is_refused(source, refused):
    source.files["label_data_0531.json"] = source.files["label_data_0313.json"][:1]
    assert "0313-1-60-20" in refused("tusimple", source.write())[0].found


def test_without_label_files_there_is_nothing_to_read(tmp_path, refused):
    assert "label" in refused("tusimple", tmp_path)[0].expected


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(-2, 1279), min_size=4, max_size=4), max_size=5))
def test_no_point_is_invented_and_none_is_lost(lanes):
    found = list(_points(Label(raw_file="x", lanes=lanes, h_samples=HEIGHTS)))
    rebuilt = [[{y: x for x, y in lane}.get(height, -2) for height in HEIGHTS] for lane in found]
    assert rebuilt == [[x if x >= 0 else -2 for x in lane] for lane in lanes]


def test_the_real_labels_become_the_lanes_that_they_say(real_data, tmp_path, draw, imported):
    """The 800 labels are real; their images are not there, and pictures stand in for every tenth."""
    lines = (real_data / "tusimple/train_label.json").read_text().splitlines()
    assert len([Label.model_validate_json(line) for line in lines]) == 800
    labels = {one["raw_file"]: one for one in map(json.loads, lines[::10])}
    for raw_file in labels:
        draw(tmp_path / "tusimple" / raw_file)
    (tmp_path / "tusimple/label_data_0313.json").write_text("\n".join(map(json.dumps, labels.values())))
    delivery = imported("tusimple", tmp_path / "tusimple")
    assert {split: len(rows) for split, rows in delivery.rows.items()} == {"train": 52, "val": 12, "test": 16}
    for raw_file, one in labels.items():
        lanes = row_of(delivery, raw_file.removeprefix("clips/").removesuffix(".jpg").replace("/", "-")).lanes
        # Official: tusimple-benchmark/example/lane_demo.ipynb zips the lane with h_samples where x >= 0.
        drawn = [[(x, y) for x, y in zip(lane, one["h_samples"], strict=True) if x >= 0] for lane in one["lanes"]]
        assert [list(lane) for lane in lanes] == [lane for lane in drawn if len(lane) > 1]
