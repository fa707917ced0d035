"""COCO instances → delivery: boxes, crowds, splits by file, and what is bad."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

CATEGORIES = [{"id": 3, "name": "car"}, {"id": 7, "name": "person"}]


class Source:
    """A made-up data set: ``files[split]`` are the contents of its annotation files."""

    def __init__(self, root: Path, draw) -> None:
        self.root, self.draw, self.files = root, draw, {}

    def add(self, split: str, count: int, name: str = "2017") -> dict[str, Any]:
        """``count`` images of 32×24, each with a car."""
        first = 100 * (1 + len(self.files))
        images = [
            {"id": first + number, "file_name": f"{split}{number}.png", "width": 32, "height": 24, "license": 1}
            for number in range(count)
        ]
        boxes = [
            {"id": one["id"], "image_id": one["id"], "category_id": 3, "bbox": [1, 2, 10, 8], "iscrowd": 0, "area": 80}
            for one in images
        ]
        for one in images:
            self.draw(self.root / f"{split}{name}" / one["file_name"])
        licences = [{"id": 1, "name": "Attribution License", "url": "http://creativecommons.org/licenses/by/2.0/"}]
        content = {"images": images, "annotations": boxes, "categories": deepcopy(CATEGORIES), "licenses": licences}
        self.files[f"{split}{name}"] = content
        return content

    def write(self) -> Path:
        (self.root / "annotations").mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (self.root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
        return self.root


@pytest.fixture
def source(tmp_path, draw) -> Source:
    source = Source(tmp_path / "coco", draw)
    source.add("train", 10)
    source.add("val", 3)
    return source


def row_of(delivery, sample_id):
    return next(row for _, row in delivery.all_rows() if row.sample_id == sample_id)


def test_splits_are_the_files_and_test_is_cut_from_train(source, imported):
    delivery = imported("coco", source.write())
    assert {split: len(rows) for split, rows in delivery.rows.items()} == {"train": 8, "val": 3, "test": 2}
    assert all(row.sample_id.startswith("val") for row in delivery.rows["val"])
    assert all(row.sample_id.startswith("train") for row in delivery.rows["test"])


def test_several_files_of_a_split_and_no_cut_where_all_splits_are_given(source, imported):
    source.add("test", 2)
    source.add("train", 4, "extra")
    source.files["trainextra"]["images"] = source.files["trainextra"]["images"][:4]
    for number, image in enumerate(source.files["trainextra"]["images"]):
        image["file_name"] = f"extra/{number}.png"
        source.draw(source.root / "images/trainextra/extra" / f"{number}.png")
    names = ["--train", "annotations/instances_train2017.json", "--train", "annotations/instances_trainextra.json"]
    names += ["--val", "annotations/instances_val2017.json", "--test", "annotations/instances_test2017.json"]
    delivery = imported("coco", source.write(), *names)
    assert {split: len(rows) for split, rows in delivery.rows.items()} == {"train": 14, "val": 3, "test": 2}
    assert row_of(delivery, "extra-3").source_ref == "images/extra-3.png"


def test_crowds_are_to_be_ignored_and_an_image_without_boxes_has_an_empty_list(source, imported):
    content = source.files["val2017"]
    content["annotations"][0] |= {"iscrowd": 1, "category_id": 7, "segmentation": {"counts": [1], "size": [24, 32]}}
    del content["annotations"][1:]
    delivery = imported("coco", source.write())
    assert [(box.category, box.ignore) for box in row_of(delivery, "val0").boxes] == [("person", True)]
    assert row_of(delivery, "val1").boxes == ()
    assert delivery.slices.labels.boxes == ("car", "person")


def test_boxes_are_clipped_to_the_image_and_others_are_as_they_were(source, imported):
    boxes = [[-2, -3, 10, 10], [30.5, 20.25, 9, 9], [0.1, 0.2, 0.7, 0.3]]
    for one, bbox in zip(source.files["val2017"]["annotations"], boxes, strict=True):
        one["bbox"] = bbox
    delivery = imported("coco", source.write())
    found = [row_of(delivery, f"val{number}").boxes[0].bbox for number in range(3)]
    assert found == [(0, 0, 8, 7), (30.5, 20.25, 1.5, 3.75), (0.1, 0.2, 0.7, 0.3)]


def test_rows_have_the_images_own_licence_and_assigned_times(source, imported):
    source.files["val2017"]["images"][0].pop("license")
    delivery = imported("coco", source.write(), "--licence", "CC-BY-4.0")
    assert row_of(delivery, "val0").licence == "CC-BY-4.0"
    assert row_of(delivery, "val1").licence == "Attribution License"
    assert {row.captured_at_source for _, row in delivery.all_rows()} == {"assigned"}


def spoil(source: Source) -> None:
    annotations = source.files["train2017"]["annotations"]
    annotations[0]["bbox"] = [296.65, 388.33, 1.03, 0.0]  # as COCO's train2017 has it
    annotations[1]["bbox"] = [5, 5, 4, 0]
    annotations[2]["image_id"] = 999
    annotations[3]["category_id"] = 4
    (source.root / "train2017/train4.png").unlink()


FIELDS = {
    "annotations.0.bbox",
    "annotations.1.bbox",
    "annotations.2.image_id",
    "annotations.3.category_id",
    "images.4.file_name",
}


def test_all_that_is_bad_comes_in_one_report(source, refused):
    spoil(source)
    problems = refused("coco", source.write())
    assert {problem.field for problem in problems} == FIELDS
    assert all(problem.file.endswith("instances_train2017.json") for problem in problems)


def test_what_is_bad_can_be_left_out_and_is_counted(source, imported, capsys):
    spoil(source)
    delivery = imported("coco", source.write(), "--skip-bad")
    assert f"left out {len(FIELDS)} bad" in capsys.readouterr().out
    assert sum(map(len, delivery.rows.values())) == 12
    assert row_of(delivery, "train0").boxes == ()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda content: content["images"][1].update(id=content["images"][0]["id"]), "images.1.id"),
        (lambda content: content["images"][1].pop("width"), "images.1.width"),
        (lambda content: content["annotations"][2].update(bbox=[1, 2, 3]), "annotations.2.bbox.3"),
        (lambda content: content["annotations"][2].update(bbox=[1, 2, 3, "x"]), "annotations.2.bbox.3"),
        (lambda content: content["categories"][0].update(name=""), "categories.0.name"),
        (lambda content: content.pop("categories"), "categories"),
    ],
)
def test_a_file_that_is_not_in_the_format_is_refused_by_its_field(source, refused, change, field):
    change(source.files["train2017"])
    assert [problem.field for problem in refused("coco", source.write(), "--skip-bad")] == [field]


def test_one_name_in_two_splits_is_refused(source, refused):
    source.files["val2017"]["images"][0]["file_name"] = "train0.png"
    source.draw(source.root / "val2017/train0.png")
    (problem,) = refused("coco", source.write())
    assert "train0" in problem.found


def test_an_image_outside_the_source_is_not_there(source, refused):
    source.draw(source.root.parent / "outside.png")
    source.files["train2017"]["images"][0]["file_name"] = "../../outside.png"
    assert [problem.field for problem in refused("coco", source.write())] == ["images.0.file_name"]


def test_without_annotation_files_there_is_nothing_to_read(tmp_path, refused):
    assert "--train" in refused("coco", tmp_path)[0].expected
    assert refused("coco", tmp_path, "--train", "x.json")[0].file.endswith("x.json")


def test_names_are_mapped_and_unknown_ones_listed(source, imported, refused, tmp_path):
    (tmp_path / "map.yaml").write_text("car: vehicle\n")
    delivery = imported("coco", source.write(), "--categories", str(tmp_path / "map.yaml"))
    assert delivery.slices.labels.boxes == ("vehicle",)
    assert {box.category for _, row in delivery.all_rows() for box in row.boxes} == {"vehicle"}


def test_a_name_that_the_map_lacks_is_refused_even_with_skip_bad(source, refused, tmp_path):
    source.files["train2017"]["annotations"][0]["category_id"] = 7
    (tmp_path / "map.yaml").write_text("car: vehicle\n")
    options = ["--categories", str(tmp_path / "map.yaml"), "--skip-bad"]
    (problem,) = refused("coco", source.write(), *options)
    assert (problem.file, problem.field) == (str(tmp_path / "map.yaml"), "person")


def test_the_boxes_of_real_coco_are_those_that_pycocotools_reads(real_data, tmp_path, draw, imported):
    coco = pytest.importorskip("pycocotools.coco").COCO(
        str(real_data / "metric_vectors/coco/instances_val2014_100.json")
    )
    crowds = {one["image_id"] for one in coco.dataset["annotations"] if one["iscrowd"]}
    assert crowds
    images = coco.loadImgs(sorted({*coco.getImgIds()[:30], *crowds}))
    for image in images:
        draw(tmp_path / "coco" / image["file_name"], image["width"], image["height"])
    ids = {image["id"] for image in images}
    kept = [one for one in coco.dataset["annotations"] if one["image_id"] in ids]
    (tmp_path / "coco/instances.json").write_text(json.dumps({**coco.dataset, "images": images, "annotations": kept}))
    delivery = imported("coco", tmp_path / "coco", "--train", "instances.json")
    names = {one["id"]: one["name"] for one in coco.loadCats(coco.getCatIds())}
    for image in images:
        found = row_of(delivery, Path(image["file_name"]).stem).boxes
        expected = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        assert [(box.category, list(box.bbox), box.ignore) for box in found] == [
            (names[one["category_id"]], pytest.approx(one["bbox"], abs=0.02), bool(one["iscrowd"])) for one in expected
        ]
