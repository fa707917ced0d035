"""Category maps: what becomes of each name, and which maps are refused."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.contract.errors import ContractError
from trainer.data.readers.category_map import MAPS, CategoryMap, read_category_map

BBOX = (1.0, 2.0, 3.0, 4.0)
MAP = {"Car": "car", "Cab": "car", "Van": "ignore car", "Walker": "walker", "Blur": "ignore", "Sky": "drop"}


def seen(categories: CategoryMap, name: str, ignore: bool = False) -> list[tuple[str, bool]]:
    boxes = categories.boxes(name, BBOX, ignore)
    assert all(box.bbox == BBOX for box in boxes)
    return [(box.category, box.ignore) for box in boxes]


def test_each_kind_of_entry():
    categories = CategoryMap(MAP)
    assert categories.targets == ("car", "walker")
    assert seen(categories, "Cab") == [("car", False)]
    assert seen(categories, "Cab", ignore=True) == [("car", True)]
    assert seen(categories, "Van") == [("car", True)]
    assert seen(categories, "Blur") == [("car", True), ("walker", True)]
    assert seen(categories, "Sky") == []
    assert not list(categories.unknown())


def test_unknown_names_are_listed_with_their_number():
    categories = CategoryMap(MAP, "map.yaml")
    for name in ("Tram", "Car", "Tram", "Bus"):
        categories.boxes(name, BBOX)
    assert [(problem.file, problem.field) for problem in categories.unknown()] == [
        ("map.yaml", "Bus"),
        ("map.yaml", "Tram"),
    ]
    assert "2 boxes" in next(problem.found for problem in categories.unknown() if problem.field == "Tram")


def test_without_a_map_names_are_categories():
    categories = CategoryMap()
    assert seen(categories, "Tram", ignore=True) == [("Tram", True)]
    assert seen(categories, "drop") == [("drop", False)]
    assert categories.targets == ("Tram", "drop")
    assert not list(categories.unknown())


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=8), st.sampled_from(["a", "b c", "ignore", "ignore a", "drop"]), min_size=1))
def test_boxes_have_only_the_categories_that_are_declared(names):
    categories = CategoryMap(names)
    for name, verdict in names.items():
        found = seen(categories, name)
        assert {category for category, _ in found} <= {*categories.targets, "a"}
        assert (found == [(verdict, False)]) is (verdict in ("a", "b c"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[Car, Van]", "mapping"),
        ("{}", "mapping"),
        ("Car:", "None"),
        ("Car: [car]", "car"),
        ("Car: ''", "Car"),
        ("no: drop\nCar: car", "quotes"),
        ("3: drop\nCar: car", "quotes"),
        ("Car: drop", "at least one"),
        ("Car: car\nVan: ignore cat", "ignore cat"),
        ("Car: car\nCar: drop", "twice"),
    ],
)
def test_a_map_that_cannot_be_meant_is_refused(tmp_path, text, expected):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(ContractError) as caught:
        read_category_map(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("kitti", {"car", "pedestrian", "cyclist"}),
        ("bdd100k", {"pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle", "traffic light",
                     "traffic sign"}),
        ("nuscenes", {"car", "truck", "bus", "trailer", "construction_vehicle", "pedestrian", "motorcycle", "bicycle",
                      "traffic_cone", "barrier"}),
    ],
)  # fmt: skip
def test_the_maps_that_ship_have_the_classes_of_the_benchmarks(name, targets):
    assert set(read_category_map(MAPS / f"{name}.yaml").targets) == targets
    assert {path.stem for path in MAPS.iterdir()} == {"kitti", "bdd100k", "nuscenes"}


def test_nuscenes_has_its_23_categories():
    assert len(yaml.safe_load((MAPS / "nuscenes.yaml").read_text())) == 23
