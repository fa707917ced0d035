"""VOC boxes plus a csv → delivery: coordinates, groups, splits, and what is bad."""

import argparse
import csv
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from trainer.contract.delivery import Delivery, count_labels, read_delivery
from trainer.contract.errors import ContractError
from trainer.data.readers import voc

REAL = Path(__file__).parents[4] / ".." / "shared" / "data" / "dawn_fog"
WIDTH, HEIGHT = 40, 30


def xml(*objects: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    width, height = size
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{''.join(objects)}</annotation>"


def thing(xmin: Any, ymin: Any, xmax: Any, ymax: Any, name: str = "car", difficult: int = 0) -> str:
    corners = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"


class Source:
    """A made-up VOC directory; ``table`` becomes the csv."""

    def __init__(self, root: Path, images: str = "images", annotations: str = "voc") -> None:
        self.root, self.images, self.annotations = root, root / images, root / annotations
        self.images.mkdir(parents=True)
        self.annotations.mkdir()
        self.table: list[dict[str, str]] = []

    def add(self, stem: str, *objects: str, seed: int | None = None, **cells: str) -> None:
        rng = np.random.default_rng(len(self.table) if seed is None else seed)
        cv2.imwrite(str(self.images / f"{stem}.png"), rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        (self.annotations / f"{stem}.xml").write_text(xml(*(objects or (thing(2, 3, 11, 12),))))
        self.table.append({"id": stem, **cells})

    def write_csv(self, name: str = "manifest.csv") -> None:
        with open(self.root / name, "w", newline="") as stream:
            writer = csv.DictWriter(stream, list(self.table[0]))
            writer.writeheader()
            writer.writerows(self.table)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Twenty images in ten groups of two, four images in val."""
    source = Source(tmp_path / "source")
    for number in range(20):
        split = "val" if number < 4 else "train"
        source.add(f"f-{number:02d}", weather="fog", fog_kind="mist", dup_group=f"g{number // 2}", split=split)
    source.write_csv()
    return source


def run(source: Source | Path, out: Path, *options: str) -> Delivery:
    parser = argparse.ArgumentParser()
    voc.add_arguments(parser)
    root = source.root if isinstance(source, Source) else source
    voc.run(parser.parse_args([str(root), str(out), *options]), None)
    return read_delivery(out)


def split_of(delivery: Delivery) -> dict[str, str]:
    return {row.sample_id: split for split, row in delivery.all_rows()}


def boxes_of(delivery: Delivery, sample_id: str):
    return next(row.boxes for _, row in delivery.all_rows() if row.sample_id == sample_id)


def annotate(source: Source, stem: str, *objects: str, **given: Any) -> None:
    (source.annotations / f"{stem}.xml").write_text(xml(*objects, **given))


@pytest.mark.parametrize(
    ("corners", "bbox"),
    [
        ((1, 1, WIDTH, HEIGHT), (0, 0, WIDTH, HEIGHT)),
        ((1, 1, 1, 1), (0, 0, 1, 1)),
        ((11, 21, 20, 30), (10, 20, 10, 10)),
        ((0, 0, 10, 10), (0, 0, 10, 10)),
        ((31, 21, 99, 99), (30, 20, 10, 10)),
        ((2.5, 1, 4.5, 2), (1.5, 0, 3, 2)),
    ],
)
def test_corners_counted_from_one_become_xywh_within_the_image(source, tmp_path, corners, bbox):
    annotate(source, "f-05", thing(*corners))
    (box,) = boxes_of(run(source, tmp_path / "out"), "f-05")
    assert box.bbox == bbox


def test_difficult_objects_are_to_be_ignored(source, tmp_path):
    annotate(source, "f-05", thing(2, 2, 9, 9), thing(2, 2, 9, 9, name="bus", difficult=1))
    boxes = boxes_of(run(source, tmp_path / "out"), "f-05")
    assert [(box.category, box.ignore) for box in boxes] == [("car", False), ("bus", True)]


def test_an_image_without_objects_has_an_empty_list_of_boxes(source, tmp_path):
    (source.annotations / "f-05.xml").write_text(xml())
    assert boxes_of(run(source, tmp_path / "out"), "f-05") == ()


def test_test_is_cut_from_train_by_whole_groups(source, tmp_path):
    splits = split_of(run(source, tmp_path / "out"))
    for number in range(0, 20, 2):
        assert splits[f"f-{number:02d}"] == splits[f"f-{number + 1:02d}"]
    assert {name for name, split in splits.items() if split == "val"} == {"f-00", "f-01", "f-02", "f-03"}
    assert Counter(splits.values()) == {"train": 12, "val": 4, "test": 4}


def test_the_cut_does_not_depend_on_the_order_of_the_csv(source, tmp_path):
    before = run(source, tmp_path / "out").digest
    source.table.reverse()
    source.write_csv()
    assert run(source, tmp_path / "again").digest == before == run(source, tmp_path / "out").digest


def test_images_of_the_same_bytes_join_their_groups(source, tmp_path, capsys):
    source.add("twin", weather="fog", fog_kind="mist", dup_group="other", split="val", seed=10)
    source.write_csv()
    splits = split_of(run(source, tmp_path / "out"))
    assert splits["twin"] == splits["f-10"] == splits["f-11"] == "val"
    assert "moved 2 images" in capsys.readouterr().out


def test_a_group_that_the_csv_parts_goes_to_the_split_that_is_judged_on(source, tmp_path, capsys):
    source.table[19]["split"] = "test"
    source.write_csv()
    splits = split_of(run(source, tmp_path / "out"))
    assert splits["f-18"] == splits["f-19"] == "test"
    assert Counter(splits.values())["test"] == 2, "the source has a test split: nothing is cut"
    assert "moved 1 images" in capsys.readouterr().out


def test_without_a_split_column_all_three_are_cut_by_group(source, tmp_path):
    for cells in source.table:
        del cells["split"]
    source.write_csv()
    splits = split_of(run(source, tmp_path / "out"))
    assert Counter(splits.values()) == {"train": 12, "val": 4, "test": 4}
    assert all(splits[f"f-{number:02d}"] == splits[f"f-{number + 1:02d}"] for number in range(0, 20, 2))


def test_a_plain_voc_directory_without_a_csv_is_read(tmp_path, capsys):
    source = Source(tmp_path / "source", "JPEGImages", "Annotations")
    for number in range(8):
        source.add(f"2007_{number:06d}")
    delivery = run(source, tmp_path / "out")
    assert all(delivery.rows.values())
    assert len(split_of(delivery)) == 8
    assert "no manifest.csv" in capsys.readouterr().out


def test_columns_are_chosen_by_options(tmp_path):
    source = Source(tmp_path / "source")
    for number in range(8):
        source.add(f"x{number}", scene="city" if number % 2 else "tunnel", part="train", clip=f"c{number}")
    source.table = [{"file" if key == "id" else key: value for key, value in row.items()} for row in source.table]
    source.write_csv("facts.csv")
    given = ["--csv", "facts.csv", "--id-column", "file", "--attributes", "scene", "--split-column", "part"]
    delivery = run(source, tmp_path / "out", *given, "--group-column", "clip", "--licence", "CC0-1.0")
    assert {row.attributes["scene"] for _, row in delivery.all_rows()} == {"city", "tunnel"}
    assert {row.licence for _, row in delivery.all_rows()} == {"CC0-1.0"}
    assert {one.name for one in delivery.slices.slices} == {"scene-city", "scene-tunnel", "crowded"}


@pytest.mark.parametrize(
    "option", [["--attributes", "rain"], ["--split-column", "part"], ["--group-column", "g"], ["--id-column", "file"]]
)
def test_a_column_that_was_asked_for_must_be_there(source, tmp_path, option):
    with pytest.raises(ContractError) as caught:
        run(source, tmp_path / "out", *option)
    assert [problem.field for problem in caught.value.problems] == [option[1]]


def test_a_csv_that_was_asked_for_must_be_there(source, tmp_path):
    with pytest.raises(ContractError, match=r"facts\.csv"):
        run(source, tmp_path / "out", "--csv", "facts.csv")


def test_an_unstated_licence_is_said(source, tmp_path, capsys):
    assert {row.licence for _, row in run(source, tmp_path / "out").all_rows()} == {"unstated"}
    assert "--licence" in capsys.readouterr().out


def test_names_that_no_sample_can_have_are_changed_and_never_collide(source, tmp_path):
    cells = {"weather": "fog", "fog_kind": "mist", "dup_group": "new", "split": "train"}
    source.add("a b.c", **cells)
    source.write_csv()
    assert "a-b-c" in split_of(run(source, tmp_path / "out"))
    source.add("a-b.c", **cells)
    source.write_csv()
    with pytest.raises(ContractError, match="a-b-c"):
        run(source, tmp_path / "out")


BAD = [
    ("f-04", (thing(9, 2, 5, 9),), {}),
    ("f-05", (thing(2, 9, 9, 5),), {}),
    ("f-06", (thing(41, 2, 60, 9),), {}),
    ("f-07", (thing(-9, 2, 0, 9),), {}),
    ("f-08", (thing("nan", 2, 9, 9),), {}),
    ("f-09", (thing("", 2, 9, 9),), {}),
    ("f-10", (thing(2, 2, 9, 9, name=""),), {}),
    ("f-11", (thing(2, 2, 9, 9),), {"size": (30, 40)}),
    ("f-12", ("<object>",), {}),
]


@pytest.mark.parametrize(("stem", "objects", "given"), BAD, ids=[stem for stem, _, _ in BAD])
def test_each_bad_annotation_is_refused_by_its_file(source, tmp_path, stem, objects, given):
    annotate(source, stem, *objects, **given)
    with pytest.raises(ContractError) as caught:
        run(source, tmp_path / "out")
    assert [problem.file for problem in caught.value.problems] == [str(source.annotations / f"{stem}.xml")]
    assert not (tmp_path / "out").exists()


def spoil(source: Source) -> int:
    for stem, objects, given in BAD:
        annotate(source, stem, *objects, **given)
    (source.images / "f-13.png").unlink()
    (source.annotations / "f-14.xml").unlink()
    (source.images / "f-15.png").write_bytes(b"")
    return len(BAD) + 3


def test_all_that_is_bad_comes_in_one_report(source, tmp_path):
    count = spoil(source)
    with pytest.raises(ContractError) as caught:
        run(source, tmp_path / "out")
    assert len(caught.value.problems) == count


def test_what_is_bad_can_be_left_out_and_is_counted(source, tmp_path, capsys):
    count = spoil(source)
    delivery = run(source, tmp_path / "out", "--skip-bad")
    assert f"left out {count} bad" in capsys.readouterr().out
    assert set(split_of(delivery)) == {f"f-{number:02d}" for number in range(20)} - {
        "f-11",
        "f-12",
        "f-13",
        "f-14",
        "f-15",
    }
    assert boxes_of(delivery, "f-04") == ()


def test_annotations_that_the_csv_does_not_list_are_counted(source, tmp_path, capsys):
    annotate(source, "stray", thing(2, 2, 9, 9))
    run(source, tmp_path / "out")
    assert "left out 1 annotations" in capsys.readouterr().out


@pytest.mark.parametrize("split", ["training", ""])
def test_an_unknown_split_is_refused(source, tmp_path, split):
    source.table[5]["split"] = split
    source.write_csv()
    with pytest.raises(ContractError) as caught:
        run(source, tmp_path / "out")
    assert [(problem.line, problem.field) for problem in caught.value.problems] == [(7, "split")]


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data/dawn_fog is not there")
def test_the_real_set_passes_the_contract(tmp_path):
    delivery = run(REAL, tmp_path / "out")
    with open(REAL / "manifest.csv", newline="") as stream:
        table = {cells["id"]: cells for cells in csv.DictReader(stream)}
    splits = split_of(delivery)
    groups: dict[str, set[str]] = {}
    for name, split in splits.items():
        groups.setdefault(table[name]["dup_group"], set()).add(split)
        assert split == table[name]["split"] or (split, table[name]["split"]) == ("test", "train")
    assert all(len(parts) == 1 for parts in groups.values())
    assert splits.keys() == table.keys()
    for category in ("car", "truck", "person", "bus", "motorcycle", "bicycle"):
        expected = sum(int(cells[category]) for cells in table.values())
        assert count_labels(row for _, row in delivery.all_rows())[category] == expected
    assert all(sum(map(one.holds, delivery.rows["test"])) >= one.min_samples for one in delivery.slices.slices)


def test_attribute_values_in_any_script_become_slices_of_their_own(tmp_path):
    source = Source(tmp_path / "source")
    for number in range(12):
        source.add(f"f{number}", weather=("晴", "雨", "a/b", "a-b")[number % 4])
    source.write_csv()
    found = {one.name: one.where for one in run(source, tmp_path / "out").slices.slices if one.where}
    values = [where["attributes.weather"] for where in found.values() if "attributes.weather" in where]
    assert sorted(values) == sorted(["晴", "雨", "a/b", "a-b"])


@pytest.mark.parametrize("encoding", ["gb2312", "no-such-encoding"])
def test_an_encoding_that_cannot_be_read_is_a_problem_of_that_file(source, tmp_path, encoding):
    path = source.annotations / "f-05.xml"
    path.write_text(f'<?xml version="1.0" encoding="{encoding}"?>' + xml(thing(1, 1, 9, 9)))
    with pytest.raises(ContractError, match=r"f-05\.xml"):
        run(source, tmp_path / "out")


@pytest.mark.parametrize("options", [("--windows", "100000000"), ("--start", "9999-12-31")])
def test_windows_beyond_the_calendar_are_refused_as_future_ones(source, tmp_path, options):
    with pytest.raises(ContractError, match="windows that have passed"):
        run(source, tmp_path / "out", *options)
