"""Boxes and lanes of BDD100K (doc.bdd100k.com), as its labels of 2020 and of 2018 have them.

SRC is the directory ``bdd100k``: images in ``images/100k/<split>/``, and below ``labels/`` the first that there is of

1. ``det_20/det_<split>.json`` (boxes) and ``lane/polygons/lane_<split>.json`` (lanes), either or both;
2. ``bdd100k_labels_images_<split>.json`` (boxes and lanes);
3. ``100k/<split>/<image>.json``, a file an image (boxes and lanes).

* **Boxes.** ``box2d`` counts its last pixel (scalabel's ``box2d_to_bbox``): ``w = x2 - x1 + 1``, then clipped to
  1280×720. ``crowd`` and ``ignored`` become ``ignore``; occlusion, truncation and drivable areas are not read. A box
  without an area, and an image that is not there, are problems, all in one report; ``--skip-bad`` leaves them out.
* **Categories.** As ``--categories`` maps them; by default the benchmark's ten classes.
* **Lanes.** Each ``poly2d`` of a lane marking is a polyline; Bézier curves (``C``) are sampled. Crosswalks and
  markings across the road (``vertical``) are no lanes; the number of those is printed.
* **Attributes.** ``weather``, ``timeofday`` (as ``time_of_day``) and ``scene``, where they are not ``undefined``.
* **Split.** BDD100K's own train and val. Its test labels are not published: test is cut from train, 20 % of the
  images, in the order of the sha1 of the name before the ``-``; images with the same one stay together.
* **Times.** Assigned, in the order of that sha1: ``timestamp`` is the time within a video.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, FiniteFloat, TypeAdapter, field_validator

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of
from trainer.contract.manifest import Box, Point
from trainer.data.readers import Progress
from trainer.data.readers.category_map import MAPS, add_category_argument, category_map
from trainer.data.readers.common import add_common_arguments, add_time_arguments, counted, read_json
from trainer.data.readers.pictures import Picture, Source, clipped, found_image, sample_id_of
from trainer.data.readers.write_pictures import add_picture_arguments, slices_of, write_pictures

LICENCE = "BDD100K licence (education, research, not for profit)"
SIZE = (1280, 720)
SPLITS = ("train", "val")
ATTRIBUTES = {"weather": "weather", "timeofday": "time_of_day", "scene": "scene"}
UNDEFINED = "undefined"
Kinds = tuple[str, ...]
BOTH: Kinds = ("boxes", "lanes")
CURVE_STEPS = 12
"""Points on a Bézier curve: the chords of a quarter circle are at most 0.2 % of its length away from it."""


POLY2D = "at least two vertices, and types of L and C for each, with a vertex after two C"


class Box2d(BaseModel):
    x1: FiniteFloat
    y1: FiniteFloat
    x2: FiniteFloat
    y2: FiniteFloat


class Poly2d(BaseModel):
    """``types`` has a letter a vertex: L ends a line; two C before a vertex are its Bézier curve's control points."""

    vertices: list[tuple[FiniteFloat, FiniteFloat]]
    types: str


class Label(BaseModel):
    """A label of a frame; ``poly2d`` of 2018's files an image, a list of (x, y, type), is read as one poly2d."""

    category: str
    attributes: dict[str, Any] | None = None
    box2d: Box2d | None = None
    poly2d: list[Poly2d] | None = None

    @field_validator("poly2d", mode="before")
    @classmethod
    def _triples(cls, value: Any) -> Any:
        if isinstance(value, list) and value and all(isinstance(one, list) and len(one) == 3 for one in value):
            return [{"vertices": [one[:2] for one in value], "types": "".join(str(one[2]) for one in value)}]
        return value


class Frame(BaseModel):
    """A frame in the list of a label file."""

    name: str
    attributes: dict[str, Any] | None = None
    labels: list[Label] | None = None


class _Objects(BaseModel):
    objects: list[Label]


class _OneImage(BaseModel):
    """2018's file an image; ``name`` lacks the suffix."""

    name: str
    attributes: dict[str, Any] | None = None
    frames: list[_Objects]


FRAMES = TypeAdapter(list[Frame])
ONE_IMAGE = TypeAdapter(_OneImage)


@dataclass
class _Image:
    """What the label files of a split say of an image; None is what none of them annotates."""

    split: str
    name: str
    file: Path
    attributes: dict[str, str] = field(default_factory=dict)
    boxes: tuple[Box, ...] | None = None
    lanes: tuple[tuple[Point, ...], ...] | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    add_time_arguments(parser)
    add_picture_arguments(parser, LICENCE)
    add_category_argument(parser, MAPS / "bdd100k.yaml")


def run(arguments: argparse.Namespace, progress: Progress | None) -> None:
    """Write the delivery; see the module for its rules.

    Raises:
        ContractError: names every problem of the source.
    """
    source = Source(category_map(arguments))
    images: dict[tuple[str, str], _Image] = {}
    across = 0
    for split, path, kinds, frame in _frames(arguments.src / "labels"):
        image = images.setdefault((split, frame.name), _Image(split, frame.name, path))
        if any(getattr(image, kind) is not None for kind in kinds):
            source.problems.append(Problem(str(path), f"'{frame.name}' again", "a frame listed once"))
            continue
        image.attributes |= _attributes(frame)
        if "boxes" in kinds:
            image.boxes = tuple(_boxes(path, frame, source))
        if "lanes" in kinds:
            lanes = [label for label in frame.labels or () if "boxes" not in kinds or _is_lane(label)]
            along = [label for label in lanes if _is_along(label)]
            across += len(lanes) - len(along)
            image.lanes = tuple(_lanes(path, frame, along, source))
    if across:
        source.notes.append(f"left out {across} crosswalks and lane markings across the road")
    for image in counted(list(images.values()), progress):
        source.pictures += _picture(image, arguments.src / "images" / "100k", source)
    write_pictures(arguments, source, slices_of(source, ATTRIBUTES.values()))


def _frames(labels: Path) -> Iterator[tuple[str, Path, Kinds, Frame]]:
    """Split, file, the kinds of label that the file annotates, and frame.

    Raises:
        ContractError: there is no label file, or one is not as BDD100K has it.
    """
    files = [(split, *file) for split in SPLITS for file in _files(labels, split)]
    if not files:
        names = "det_20/det_<split>.json, lane/polygons/lane_<split>.json, bdd100k_labels_images_<split>.json"
        problem = Problem(str(labels), "none of them", f"{names} or 100k/<split>/*.json")
        raise ContractError(f"{labels.parent} is not usable", [problem])
    for split, path, kinds in files:
        if path.parent == labels / "100k" / split:
            one = read_json(path, ONE_IMAGE)
            found = [label for frame in one.frames for label in frame.objects]
            yield split, path, kinds, Frame(name=f"{one.name}.jpg", attributes=one.attributes, labels=found)
        else:
            yield from ((split, path, kinds, frame) for frame in read_json(path, FRAMES))


def _files(labels: Path, split: str) -> list[tuple[Path, Kinds]]:
    newer: dict[Path, Kinds] = {
        labels / "det_20" / f"det_{split}.json": ("boxes",),
        labels / "lane" / "polygons" / f"lane_{split}.json": ("lanes",),
    }
    older: dict[Path, Kinds] = {labels / f"bdd100k_labels_images_{split}.json": BOTH}
    single: dict[Path, Kinds] = dict.fromkeys(sorted((labels / "100k" / split).glob("*.json")), BOTH)
    there = ([file for file in files.items() if file[0].is_file()] for files in (newer, older, single))
    return next((files for files in there if files), [])


def _attributes(frame: Frame) -> dict[str, str]:
    given = frame.attributes or {}
    return {ours: str(given[name]) for name, ours in ATTRIBUTES.items() if given.get(name) not in (None, "", UNDEFINED)}


def _boxes(path: Path, frame: Frame, source: Source) -> Iterator[Box]:
    for index, label in enumerate(frame.labels or ()):
        box = label.box2d
        if box is None:
            continue
        bbox = clipped((box.x1, box.y1, box.x2 + 1, box.y2 + 1), SIZE)
        if bbox is None or box.x2 < box.x1 or box.y2 < box.y1:
            expected = f"x1 ≤ x2 and y1 ≤ y2 within the {SIZE[0]}×{SIZE[1]} image"
            place = f"{frame.name}.labels.{index}.box2d"
            source.problems.append(Problem(str(path), str(box), expected, field=place))
        else:
            given = label.attributes or {}
            ignore = bool(given.get("crowd") or given.get("ignored"))
            yield from source.categories.boxes(label.category, bbox, ignore)


def _is_lane(label: Label) -> bool:
    return label.category == "lane" or label.category.startswith("lane/")


def _is_along(label: Label) -> bool:
    """Whether a lane marking runs along the road. The labels of 2018 and 2020 name attributes differently."""
    given = label.attributes or {}
    kind = given.get("laneTypes", given.get("laneType")) if label.category == "lane" else label.category
    direction = given.get("laneDirection", given.get("direction"))
    return direction != "vertical" and str(kind).removeprefix("lane/") != "crosswalk"


def _lanes(path: Path, frame: Frame, labels: list[Label], source: Source) -> Iterator[tuple[Point, ...]]:
    for label in labels:
        for shape in label.poly2d or ():
            try:
                yield polyline(shape)
            except ValueError as error:
                place = f"{frame.name}.labels.{label.category}.poly2d"
                source.problems.append(Problem(str(path), str(error), POLY2D, field=place))


def polyline(shape: Poly2d) -> tuple[Point, ...]:
    """The vertices of an open ``shape``, each of its cubic Bézier curves sampled (scalabel's ``poly_to_patch``).

    Raises:
        ValueError: the types do not describe the vertices.
    """
    vertices, types = shape.vertices, shape.types
    if len(vertices) < 2 or len(types) != len(vertices) or set(types) - {"L", "C"}:
        raise ValueError(f"{len(vertices)} vertices of types '{types}'")
    points, index = [vertices[0]], 1
    while index < len(vertices):
        if types[index] == "L":
            points.append(vertices[index])
            index += 1
        elif index + 2 < len(vertices):
            points += _curve(*vertices[index - 1 : index + 3])
            index += 3
        else:
            raise ValueError(f"types '{types}' that end within a curve")
    return tuple(points)


def _curve(start: Point, first: Point, second: Point, end: Point) -> Iterator[Point]:
    """The points of a cubic Bézier curve after its start (Bernstein's polynomials)."""
    for step in range(1, CURVE_STEPS + 1):
        t = step / CURVE_STEPS
        weights = ((1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3)
        placed = list(zip(weights, (start, first, second, end), strict=True))
        yield round(sum(w * x for w, (x, _) in placed), 2), round(sum(w * y for w, (_, y) in placed), 2)


def _picture(image: _Image, images: Path, source: Source) -> list[Picture]:
    path = found_image([images / image.split], image.name)
    if path is None:
        expected = f"an image in {images / image.split}"
        source.problems.append(Problem(str(image.file), f"'{image.name}'", expected, field="name"))
        return []
    stem = Path(image.name).stem
    return [
        Picture(
            sample_id_of(stem),
            path,
            sha256_of(path),
            group=f"{image.split} {stem.partition('-')[0]}",
            split=image.split,
            attributes=image.attributes,
            boxes=image.boxes,
            lanes=image.lanes,
        )
    ]
