"""KITTI objects → delivery: the 15 columns, the drive of each frame, ignored types."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.readers.category_map import CategoryMap
from trainer.data.readers.kitti import _boxes
from trainer.data.readers.pictures import Source as Found

# type, truncated, occluded, alpha, 4 bbox, 3 dimensions, 3 location, rotation: the form of training/label_2.
LINE = "{} 0.00 0 -1.57 {} {} {} {} 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59"
DONT_CARE = "DontCare -1 -1 -10 {} {} {} {} -1 -1 -1 -1000 -1000 -1000 -10"


class Source:
    """Frames of some drives, numbered against their order: frame i is line ``count - i`` of the mapping."""

    def __init__(self, root: Path, draw, drives: dict[str, int], mapping: str = "mapping") -> None:
        self.root, self.mapping = root, root / mapping
        self.lines = [
            f"{drive[:10]} {drive}_sync {frame:010d}" for drive, count in drives.items() for frame in range(count)
        ]
        self.images, self.labels = root / "training/image_2", root / "training/label_2"
        for path in (self.labels, self.mapping):
            path.mkdir(parents=True)
        for number in range(len(self.lines)):
            draw(self.images / f"{number:06d}.png", 124, 37)
            self.label(number, LINE.format("Car", 10, 12, 30.5, 20.25))
        (self.mapping / "train_mapping.txt").write_text("\n".join(self.lines) + "\n")
        (self.mapping / "train_rand.txt").write_text(",".join(str(number) for number in range(len(self.lines), 0, -1)))

    def label(self, number: int, *lines: str) -> None:
        (self.labels / f"{number:06d}.txt").write_text("".join(f"{line}\n" for line in lines))

    def sample_id(self, number: int) -> str:
        _, drive, frame = self.lines[len(self.lines) - 1 - number].split()
        return f"{drive.removesuffix('_sync')}-{frame}"


DRIVES = {f"2011_09_26_drive_{number:04d}": 2 + number % 3 for number in range(12)}


@pytest.fixture
def source(tmp_path, draw) -> Source:
    return Source(tmp_path / "kitti", draw, DRIVES)


def rows_of(delivery):
    return {row.sample_id: row for _, row in delivery.all_rows()}


def test_boxes_run_from_left_top_to_right_bottom(source, imported):
    row = rows_of(imported("kitti", source.root))[source.sample_id(5)]
    assert [(box.category, box.bbox, box.ignore) for box in row.boxes] == [("car", (10, 12, 20.5, 8.25), False)]
    assert row.attributes["frame"] == "000005"


def test_types_become_what_the_benchmark_makes_of_them(source, imported):
    types = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
    source.label(3, *(LINE.format(name, 1, 2, 5, 9) for name in types), DONT_CARE.format(40, 10, 60, 20))
    delivery = imported("kitti", source.root)
    boxes = rows_of(delivery)[source.sample_id(3)].boxes
    assert [(box.category, box.ignore) for box in boxes if box.bbox[0] == 1] == [
        ("car", False),
        ("car", True),
        ("pedestrian", False),
        ("pedestrian", True),
        ("cyclist", False),
    ]
    regions = {(box.category, box.bbox, box.ignore) for box in boxes if box.bbox[0] == 40}
    assert regions == {(category, (40, 10, 20, 10), True) for category in ("car", "pedestrian", "cyclist")}
    assert set(delivery.slices.labels.boxes) == {"car", "pedestrian", "cyclist"}


def test_drives_are_never_parted(source, imported):
    delivery = imported("kitti", source.root)
    splits = {}
    for split, row in delivery.all_rows():
        splits.setdefault(row.attributes["drive"], set()).add(split)
    assert splits.keys() == DRIVES.keys()
    assert all(len(found) == 1 for found in splits.values())
    total = sum(DRIVES.values())
    assert 0.2 * total <= len(delivery.rows["test"]) < 0.2 * total + 4
    assert delivery.rows["val"]


def test_the_drive_is_found_by_the_line_that_the_permutation_names(source, imported):
    """The development kit: image 0 has index 7282 (from 1), the line of the mapping that tells its drive and frame."""
    assert source.sample_id(0) == "2011_09_26_drive_0011-0000000003"  # the last line: train_rand begins with it
    rows = rows_of(imported("kitti", source.root))
    assert rows["2011_09_26_drive_0011-0000000003"].attributes["frame"] == "000000"
    assert rows["2011_09_26_drive_0000-0000000000"].attributes["frame"] == f"{sum(DRIVES.values()) - 1:06d}"


def test_the_mapping_may_lie_in_the_development_kit(tmp_path, draw, imported):
    source = Source(tmp_path / "kitti", draw, DRIVES, "devkit_object/mapping")
    assert sum(map(len, imported("kitti", source.root).rows.values())) == sum(DRIVES.values())


def test_an_empty_label_file_has_no_boxes(source, imported):
    source.label(7)
    assert rows_of(imported("kitti", source.root))[source.sample_id(7)].boxes == ()


def test_all_that_is_bad_comes_in_one_report(source, refused):
    source.label(0, LINE.format("Car", 1, 2, 5, 9), LINE.format("Car", 5, 2, 1, 9))
    source.label(1, LINE.format("Car", 1, 2, 5, 9) + " 0.9")
    source.label(2, LINE.format("Car", 1, "x", 5, 9))
    source.label(3, LINE.format("Car", 1, "nan", 5, 9))
    (source.images / "000004.png").unlink()
    (source.labels / "000005.txt").unlink()
    source.label(99, LINE.format("Car", 1, 2, 5, 9))
    problems = refused("kitti", source.root)
    assert {(Path(problem.file).name, problem.line) for problem in problems} == {
        ("000000.txt", 2),
        ("000001.txt", 1),
        ("000002.txt", 1),
        ("000003.txt", 1),
        ("000004.png", None),
        ("000005.txt", None),
        ("000099.txt", None),
        ("000099.png", None),
    }


words = st.one_of(st.floats().map(str), st.integers().map(str), st.text(max_size=4))


@settings(max_examples=60)
@given(st.lists(words, max_size=16).map(" ".join))
def test_any_line_is_nothing_a_box_or_a_problem(line):
    found = Found(CategoryMap())
    boxes = _boxes(Path("000001.txt"), 3, line, found)
    assert len(boxes) + len(found.problems) == (1 if line.split() else 0)
    assert all(problem.line == 3 for problem in found.problems)


def test_unknown_types_are_listed(source, refused):
    source.label(0, LINE.format("Bus", 1, 2, 5, 9))
    source.label(1, LINE.format("Horse", 1, 2, 5, 9))
    assert [problem.field for problem in refused("kitti", source.root)] == ["Bus", "Horse"]


def test_frames_that_cannot_be_told_apart_by_drive_are_refused(source, refused):
    """KITTI's frames are shuffled: without the mapping neighbours would land in different splits."""
    (source.mapping / "train_rand.txt").unlink()
    assert refused("kitti", source.root)[0].file.endswith("train_rand.txt")


@pytest.mark.parametrize("text", ["7,0,3", "7,x,3", "99999"])
def test_a_permutation_that_names_no_line_is_refused(source, refused, text):
    (source.mapping / "train_rand.txt").write_text(text)
    assert refused("kitti", source.root)[0].file.endswith("train_rand.txt")


def test_a_drive_alone_cannot_be_split(tmp_path, draw, refused):
    source = Source(tmp_path / "kitti", draw, {"2011_09_26_drive_0001": 9})
    assert "groups" in refused("kitti", source.root)[0].expected
