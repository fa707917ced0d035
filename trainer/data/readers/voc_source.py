"""Reading a VOC directory: its csv, its annotations, its images, and everything that is wrong with them."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path

import cv2
import numpy as np

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of
from trainer.contract.manifest import IMAGE_SUFFIXES, SPLITS, Box
from trainer.data.readers import Progress
from trainer.data.readers.common import id_problems, read_table

IMAGE_DIRECTORIES = ("images", "JPEGImages")
ANNOTATION_DIRECTORIES = ("voc", "Annotations")
NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True)
class Options:
    """Which file and columns to read; what is not required may be absent."""

    csv: str
    csv_required: bool
    id_column: str
    attributes: tuple[str, ...]
    attributes_required: bool
    split_column: str
    split_required: bool
    group_column: str
    group_required: bool


@dataclass(frozen=True)
class Listed:
    """One line of the csv: ``stem`` names the image and its annotation."""

    line: int
    stem: str
    attributes: Mapping[str, str]
    split: str | None
    group: str


@dataclass(frozen=True)
class Picture:
    """One sample of the source, with its boxes in COCO's xywh."""

    sample_id: str
    image: Path
    sha256: str
    attributes: Mapping[str, str]
    split: str | None
    group: str
    boxes: tuple[Box, ...]


@dataclass
class Source:
    """All good pictures, what is wrong with the others, and what a user should know."""

    pictures: list[Picture] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_source(src: Path, options: Options, progress: Progress | None = None) -> Source:
    """The pictures of ``src``; bad boxes and annotations are left out and stand in ``problems``.

    Raises:
        ContractError: a directory or the csv is missing, or the csv is not usable.
    """
    images = _stems(_directory(src, IMAGE_DIRECTORIES), IMAGE_SUFFIXES)
    annotations = _stems(_directory(src, ANNOTATION_DIRECTORIES), (".xml",))
    source = Source()
    listed = _listed(src, options, annotations, source.notes)
    unlisted = len(annotations.keys() - {one.stem for one in listed})
    if unlisted:
        source.notes.append(f"left out {unlisted} annotations that {options.csv} does not list")
    for done, one in enumerate(listed, start=1):
        picture = _picture(src / options.csv, one, images, annotations, source.problems)
        source.pictures += [picture] if picture else []
        if progress is not None:
            progress(done, len(listed))
    return source


def _directory(src: Path, names: Iterable[str]) -> Path:
    for name in names:
        if (src / name).is_dir():
            return src / name
    problem = Problem(str(src), "none of them", f"a directory called {' or '.join(names)}")
    raise ContractError(f"{src} is not usable", [problem])


def _stems(directory: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    return {path.stem: path for path in sorted(directory.iterdir()) if path.suffix.lower() in suffixes}


def _listed(src: Path, options: Options, annotations: Mapping[str, Path], notes: list[str]) -> list[Listed]:
    path = src / options.csv
    if not path.is_file() and not options.csv_required:
        notes.append(f"there is no {options.csv}: each annotation is a sample without attributes")
        listed = [Listed(line, stem, {}, None, stem) for line, stem in enumerate(annotations, start=1)]
    else:
        listed = _from_csv(path, options)
    problems = list(id_problems(str(path), [(one.line, sample_id_of(one.stem)) for one in listed], options.id_column))
    problems += [
        Problem(str(path), f"'{one.split}'", f"one of {list(SPLITS)}", one.line, options.split_column)
        for one in listed
        if one.split is not None and one.split not in SPLITS
    ]
    if problems:
        raise ContractError(f"{path} is not usable", problems)
    return listed


def _from_csv(path: Path, options: Options) -> list[Listed]:
    required = [options.id_column]
    required += options.attributes if options.attributes_required else ()
    required += [options.split_column] if options.split_required else []
    required += [options.group_column] if options.group_required else []
    return [
        Listed(
            line,
            stem := cells[options.id_column],
            {name: cells[name] for name in options.attributes if cells.get(name)},
            cells.get(options.split_column),
            cells.get(options.group_column) or stem,
        )
        for line, cells in read_table(path, required)
    ]


def sample_id_of(stem: str) -> str:
    return NOT_IN_AN_ID.sub("-", stem)


def _picture(
    csv: Path, one: Listed, images: Mapping[str, Path], annotations: Mapping[str, Path], problems: list[Problem]
) -> Picture | None:
    image, annotation = images.get(one.stem), annotations.get(one.stem)
    if image is None or annotation is None:
        missing = "an image" if image is None else "an annotation"
        problems.append(Problem(str(csv), f"'{one.stem}'", f"the stem of {missing}", one.line))
        return None
    pixels = cv2.imdecode(np.fromfile(image, np.uint8), cv2.IMREAD_COLOR) if image.stat().st_size else None
    if pixels is None:
        problems.append(Problem(str(image), "something else", "an image that can be decoded"))
        return None
    boxes = read_annotation(annotation, (pixels.shape[1], pixels.shape[0]), problems)
    if boxes is None:
        return None
    sha256 = sha256_of(image)
    return Picture(sample_id_of(one.stem), image, sha256, one.attributes, one.split, one.group, boxes)


def read_annotation(path: Path, size: tuple[int, int], problems: list[Problem]) -> tuple[Box, ...] | None:
    """The good boxes of the annotation of an image of ``size`` (width, height); None when it cannot be used."""
    try:
        root = ET.parse(path).getroot()  # noqa: S314 - expat 2.4 and later bounds entity expansion
    except ET.ParseError as error:
        problems.append(Problem(str(path), str(error), "an XML document", error.position[0]))
        return None
    except (LookupError, ValueError) as error:  # an encoding that is unknown, or that expat does not read
        problems.append(Problem(str(path), str(error), "an XML document in UTF-8"))
        return None
    declared = tuple(_number(root, f"size/{side}") for side in ("width", "height"))
    if root.find("size") is not None and declared != size:
        found, expected = (f"{width:g}×{height:g}" for width, height in (declared, size))
        problems.append(Problem(str(path), found, f"the image's size, {expected}", field="size"))
        return None
    boxes = [_box(path, index, element, size, problems) for index, element in enumerate(root.findall("object"))]
    return tuple(box for box in boxes if box is not None)


def _box(path: Path, index: int, element: ET.Element, size: tuple[int, int], problems: list[Problem]) -> Box | None:
    corners = [_number(element, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    category = (element.findtext("name") or "").strip()
    expected = None
    if not category:
        expected = "an object with a name"
    elif not all(map(isfinite, corners)):
        expected = "four finite numbers xmin, ymin, xmax, ymax"
    elif corners[2] < corners[0] or corners[3] < corners[1]:
        expected = "xmin ≤ xmax and ymin ≤ ymax"
    left, top = max(0.0, corners[0] - 1), max(0.0, corners[1] - 1)
    width, height = min(corners[2], size[0]) - left, min(corners[3], size[1]) - top
    if expected is None and not (width > 0 and height > 0):
        expected = f"a box that meets the {size[0]}×{size[1]} image"
    if expected is not None:
        found = f"'{category}' {[f'{corner:g}' for corner in corners]}"
        problems.append(Problem(str(path), found, expected, field=f"object.{index}.bndbox"))
        return None
    ignore = (element.findtext("difficult") or "").strip() == "1"
    return Box(category=category, bbox=(left, top, width, height), ignore=ignore)


def _number(element: ET.Element, path: str) -> float:
    try:
        return float(element.findtext(path) or "nan")
    except ValueError:
        return float("nan")
