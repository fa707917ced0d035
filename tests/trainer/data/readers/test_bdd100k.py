"""BDD100K → delivery: both generations of its labels, Bézier curves, attributes."""

import csv
import json
from itertools import pairwise
from math import cos, hypot, pi, sin
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.readers.bdd100k import Poly2d, polyline

DAY = {"weather": "clear", "timeofday": "daytime", "scene": "city street"}
NIGHT = {"weather": "rainy", "timeofday": "night", "scene": "undefined"}


def box(category: str, corners: tuple[float, float, float, float], **attributes: Any) -> dict[str, Any]:
    given = {"occluded": False, "truncated": True, "trafficLightColor": "none", **attributes}
    box2d = dict(zip(("x1", "y1", "x2", "y2"), corners, strict=True))
    return {"id": "1", "category": category, "attributes": given, "manualShape": True, "box2d": box2d, "poly2d": None}


def shape(vertices: list[tuple[float, float]], types: str) -> list[dict[str, Any]]:
    return [{"vertices": vertices, "types": types, "closed": False}]


LINE = [(100.0, 700.0), (300.0, 400.0)]
CURVE = [(640.0, 700.0), (640.0, 600.0), (700.0, 500.0), (800.0, 450.0)]


class Source:
    """Images by split, one of them as large as BDD100K's, and label files of the three layouts."""

    def __init__(self, root: Path, draw, names: dict[str, list[str]]) -> None:
        self.root, self.names = root, names
        for split, found in names.items():
            for name in found:
                size = (1280, 720) if name == "b-1" else (64, 48)
                draw(root / "images/100k" / split / f"{name}.jpg", *size)

    def write(self, place: str, labels: dict[str, list[dict[str, Any]]], attributes: Any = DAY) -> Path:
        """One list a split at ``place`` (with {split} in it); ``labels`` are those of each image."""
        for split, names in self.names.items():
            path = self.root / "labels" / place.format(split=split)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                json.dumps(
                    [
                        {
                            "name": f"{name}.jpg",
                            "attributes": attributes,
                            "timestamp": 10000,
                            "labels": labels.get(name),
                        }
                        for name in names
                    ]
                )
            )
        return self.root

    def write_single(self, name: str, split: str, objects: list[dict[str, Any]], attributes: Any = DAY) -> None:
        path = self.root / "labels/100k" / split / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = {"timestamp": 10000, "objects": objects}
        path.write_text(json.dumps({"name": name, "frames": [frame], "attributes": attributes}))


NAMES = {"train": [f"{trip}-{clip}" for trip in "abcdefgh" for clip in (1, 2)], "val": ["i-1", "a-3"]}
DET, LANE, LIST = "det_20/det_{split}.json", "lane/polygons/lane_{split}.json", "bdd100k_labels_images_{split}.json"


@pytest.fixture
def source(tmp_path, draw) -> Source:
    return Source(tmp_path / "bdd100k", draw, NAMES)


def row_of(delivery, sample_id):
    return next(row for _, row in delivery.all_rows() if row.sample_id == sample_id)


def test_a_box_counts_its_last_pixel_and_ends_at_the_image(source, imported):
    boxes = [box("car", (10.5, 20, 30.5, 59)), box("car", (1204.5, 415.5, 1279.5, 719.75)), box("car", (0, 5, 0, 5))]
    delivery = imported("bdd100k", source.write(DET, {"b-1": boxes}))
    expected = [(10.5, 20, 21, 40), (1204.5, 415.5, 75.5, 304.5), (0, 5, 1, 1)]
    assert [one.bbox for one in row_of(delivery, "b-1").boxes] == expected
    assert row_of(delivery, "b-2").boxes == ()
    assert row_of(delivery, "b-1").lanes is None, "det_20 does not annotate lanes"


def test_names_become_what_the_benchmark_makes_of_them(source, imported):
    names = ("person", "motor", "van", "traffic sign", "other person", "other vehicle", "trailer")
    boxes = [box(name, (1, 2, 30, 40)) for name in names] + [
        box("car", (1, 2, 30, 40), crowd=True),
        {
            "id": "9",
            "category": "drivable area",
            "poly2d": shape(LINE * 2, "LLLL"),
            "attributes": {"areaType": "direct"},
        },
    ]
    found = row_of(imported("bdd100k", source.write(DET, {"b-1": boxes})), "b-1").boxes
    assert [(one.category, one.ignore) for one in found] == [
        ("pedestrian", False),
        ("motorcycle", False),
        ("car", False),
        ("traffic sign", False),
        ("pedestrian", True),
        ("car", True),
        ("truck", True),
        ("car", True),
    ]


LANES_2020 = [
    ("single white", "parallel", LINE, "LL"),
    ("crosswalk", "parallel", LINE, "LL"),
    ("road curb", "parallel", CURVE, "LCCL"),
    ("single yellow", "vertical", LINE, "LL"),
]


def check_lanes(lanes) -> None:
    assert lanes[0] == tuple(LINE)
    assert (lanes[1][0], lanes[1][-1]) == (CURVE[0], CURVE[-1])
    assert len(lanes) == 2


def test_lanes_of_2020_join_the_boxes_of_the_same_image(source, imported, capsys):
    lanes = [
        {"id": "1", "category": kind, "attributes": {"laneDirection": direction}, "poly2d": shape(vertices, types)}
        for kind, direction, vertices, types in LANES_2020
    ]
    source.write(DET, {"b-1": [box("car", (1, 2, 30, 40))]})
    row = row_of(imported("bdd100k", source.write(LANE, {"b-1": lanes})), "b-1")
    check_lanes(row.lanes)
    assert len(row.boxes) == 1
    assert "left out 2 crosswalks" in capsys.readouterr().out


def test_lanes_and_boxes_of_2018_stand_in_one_list(source, imported):
    labels = [box("bike", (1, 2, 30, 40))] + [
        {
            "id": 1,
            "category": "lane",
            "attributes": {"laneDirection": direction, "laneStyle": "solid", "laneTypes": kind},
            "poly2d": shape(vertices, types),
        }
        for kind, direction, vertices, types in LANES_2020
    ]
    row = row_of(imported("bdd100k", source.write(LIST, {"b-1": labels})), "b-1")
    check_lanes(row.lanes)
    assert [one.category for one in row.boxes] == ["bicycle"]


def test_a_file_an_image_of_2018(source, imported):
    for split, names in NAMES.items():
        for name in names:
            source.write_single(name, split, [])
    objects = [box("person", (1, 2, 30, 40)) | {"poly2d": None}] + [
        {
            "category": f"lane/{kind}",
            "id": 0,
            "attributes": {"direction": direction, "style": "solid"},
            "poly2d": [[x, y, letter] for (x, y), letter in zip(vertices, types, strict=True)],
        }
        for kind, direction, vertices, types in LANES_2020
    ]
    objects.append(
        {"category": "area/drivable", "id": 7, "attributes": {}, "poly2d": [[0, 0, "L"], [5, 5, "L"], [0, 5, "L"]]}
    )
    source.write_single("b-1", "train", objects, NIGHT)
    row = row_of(imported("bdd100k", source.root), "b-1")
    check_lanes(row.lanes)
    assert [one.category for one in row.boxes] == ["pedestrian"]
    assert row.attributes == {"weather": "rainy", "time_of_day": "night"}


def test_val_is_as_published_and_test_is_cut_from_train_by_trips(source, imported):
    delivery = imported("bdd100k", source.write(DET, {}))
    ids = {split: {row.sample_id for row in rows} for split, rows in delivery.rows.items()}
    assert ids["val"] == {"i-1", "a-3"}
    assert len(ids["test"]) == 4  # of 16 images, two a trip: the least even number from 20 % on
    trips = [{name.partition("-")[0] for name in ids[split]} for split in ("train", "test")]
    assert not trips[0] & trips[1]


def test_rows_say_licence_origin_and_that_times_are_assigned(source, imported):
    row = imported("bdd100k", source.write(DET, {})).rows["train"][0]
    assert row.licence.startswith("BDD100K licence")
    assert row.origin == "bdd100k"
    assert row.captured_at_source == "assigned"


def de_casteljau(points: list[tuple[float, float]], t: float) -> tuple[float, float]:
    while len(points) > 1:
        points = [(a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])) for a, b in pairwise(points)]
    return points[0]


def test_a_curve_is_sampled_on_the_curve(source):
    points = polyline(Poly2d(vertices=CURVE, types="LCCC"))
    steps = len(points) - 1
    for step, point in enumerate(points):
        assert point == pytest.approx(de_casteljau(CURVE, step / steps), abs=0.01)


def test_the_chords_of_a_quarter_circle_stay_close_to_it():
    k = 4 / 3 * (2**0.5 - 1)  # the usual cubic for a quarter of the unit circle, exact to 0.03 %
    quarter = [(1000 * x, 1000 * y) for x, y in ((1, 0), (1, k), (k, 1), (0, 1))]
    points = polyline(Poly2d(vertices=quarter, types="LCCL"))
    middles = [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in pairwise(points)]
    assert max(1000 - hypot(*middle) for middle in middles) < 0.002 * 1000 * pi / 2
    assert all(hypot(*point) == pytest.approx(1000, rel=0.0005) for point in points)
    assert (cos(pi / 2), sin(pi / 2)) == pytest.approx((points[-1][0] / 1000, points[-1][1] / 1000), abs=1e-9)


coordinates = st.tuples(st.integers(0, 1280).map(float), st.integers(0, 720).map(float))
pieces = st.lists(st.sampled_from(["L", "CCL", "CCC"]), min_size=1, max_size=6)


@settings(max_examples=50)
@given(pieces, st.data())
def test_a_polyline_goes_through_every_vertex_that_is_no_control_point(pieces, data):
    types = "L" + "".join(pieces)
    vertices = data.draw(st.lists(coordinates, min_size=len(types), max_size=len(types)))
    points = polyline(Poly2d(vertices=vertices, types=types))
    ends = [0]
    for piece in pieces:
        ends.append(ends[-1] + len(piece))
    walked = iter(points)
    assert all(any(point == vertices[end] for point in walked) for end in ends)
    assert len(points) == 1 + sum(1 if piece == "L" else 12 for piece in pieces)


@settings(max_examples=60)
@given(st.text("LCX", max_size=7))
def test_types_either_describe_the_vertices_or_are_refused(types):
    vertices = [(float(number), 0.0) for number in range(5)]
    try:
        points = polyline(Poly2d(vertices=vertices, types=types))
    except ValueError:
        assert len(types) != 5 or set(types) - {"L", "C"} or "C" in types[1:]
    else:
        assert (points[0], points[-1]) == (vertices[0], vertices[-1])


def test_all_that_is_bad_comes_in_one_report(source, refused):
    labels = {
        "b-1": [box("car", (30, 2, 10, 40)), box("car", (1281.5, 2, 1290, 40))],
        "c-1": [{"category": "lane", "poly2d": shape(LINE, "LC"), "attributes": {}}],
    }
    source.write(LIST, labels)
    (source.root / "images/100k/train/d-1.jpg").unlink()
    problems = refused("bdd100k", source.root)
    assert {problem.field for problem in problems} == {
        "b-1.jpg.labels.0.box2d",
        "b-1.jpg.labels.1.box2d",
        "c-1.jpg.labels.lane.poly2d",
        "name",
    }


def test_a_frame_listed_twice_is_refused(source, refused):
    path = source.write(DET, {}) / "labels/det_20/det_val.json"
    path.write_text(json.dumps(json.loads(path.read_text()) * 2))
    assert ["again" in problem.found for problem in refused("bdd100k", source.root)] == [True, True]


def test_a_file_that_is_not_in_the_format_is_refused_by_its_field(source, refused):
    path = source.write(DET, {"b-1": [box("car", (1, 2, 3, 4))]}) / "labels/det_20/det_train.json"
    content = json.loads(path.read_text())
    content[2]["labels"][0]["box2d"].pop("x2")
    path.write_text(json.dumps(content))
    assert [problem.field for problem in refused("bdd100k", source.root)] == ["2.labels.0.box2d.x2"]


def test_without_labels_the_places_that_were_looked_at_are_named(source, refused):
    assert "det_20/det_<split>.json" in refused("bdd100k", source.root)[0].expected


def test_unknown_names_are_listed(source, refused):
    problems = refused("bdd100k", source.write(DET, {"b-1": [box("horse", (1, 2, 3, 4)), box("car", (1, 2, 3, 4))]}))
    assert [problem.field for problem in problems] == ["horse"]


def test_every_combination_of_the_real_attributes_becomes_slices(real_data, tmp_path, draw, imported):
    with open(real_data / "bdd100k_attributes/val_features.csv", newline="") as stream:
        real = {(row["name"][:-4], row["weather"], row["timeofday"], row["scene"]) for row in csv.DictReader(stream)}
    combined = {attributes: name for name, *attributes in sorted(real) for attributes in [tuple(attributes)]}
    source = Source(tmp_path / "bdd100k", draw, {"train": list(combined.values()), "val": ["v-1"]})
    source.write(DET, {})
    path = source.root / "labels/det_20/det_train.json"
    names = {name: attributes for attributes, name in combined.items()}
    frames = json.loads(path.read_text())
    for frame in frames:
        given = (value.replace("_", " ") for value in names[frame["name"][:-4]])
        frame["attributes"] = dict(zip(("weather", "timeofday", "scene"), given, strict=True))
    path.write_text(json.dumps(frames))
    delivery = imported("bdd100k", source.root)
    slices = {one.name: one for one in delivery.slices.slices}
    for number, ours in enumerate(("weather", "time_of_day", "scene")):
        for value in {attributes[number] for attributes in combined} - {"undefined"}:
            expected = sum(attributes[number] == value for attributes in combined)
            said = value.replace("_", " ")
            (found,) = [one for one in slices.values() if one.where.get(f"attributes.{ours}") == said]
            assert sum(found.holds(row) for _, row in delivery.all_rows() if row.sample_id != "v-1") == expected
    assert not any("undefined" in row.attributes.values() for _, row in delivery.all_rows())
