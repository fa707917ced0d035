"""Reading a VOC directory: its csv, its annotations, its images, and everything that is wrong with them."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import cv2
import numpy as np

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of
from trainer.contract.manifest import IMAGE_SUFFIXES, SPLITS, Box
from trainer.data.readers import Progress
from trainer.data.readers.category_map import CategoryMap
from trainer.data.readers.common import counted, found_directory, id_problems, read_table
from trainer.data.readers.pictures import Picture, Source, clipped, sample_id_of

IMAGE_DIRECTORIES = ("images", "JPEGImages")
ANNOTATION_DIRECTORIES = ("voc", "Annotations")


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


def read_source(src: Path, options: Options, categories: CategoryMap, progress: Progress | None = None) -> Source:
    """The pictures of ``src``; bad boxes and annotations are left out and stand in ``problems``.

    Raises:
        ContractError: a directory or the csv is missing, or the csv is not usable.
    """
    images = _stems(found_directory(src, IMAGE_DIRECTORIES), IMAGE_SUFFIXES)
    annotations = _stems(found_directory(src, ANNOTATION_DIRECTORIES), (".xml",))
    source = Source(categories)
    listed = _listed(src, options, annotations, source.notes)
    unlisted = len(annotations.keys() - {one.stem for one in listed})
    if unlisted:
        source.notes.append(f"left out {unlisted} annotations that {options.csv} does not list")
    for one in counted(listed, progress):
        picture = _picture(src / options.csv, one, images, annotations, source)
        source.pictures += [picture] if picture else []
    return source


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


def _picture(
    csv: Path, one: Listed, images: Mapping[str, Path], annotations: Mapping[str, Path], source: Source
) -> Picture | None:
    image, annotation = images.get(one.stem), annotations.get(one.stem)
    if image is None or annotation is None:
        missing = "an image" if image is None else "an annotation"
        source.problems.append(Problem(str(csv), f"'{one.stem}'", f"the stem of {missing}", one.line))
        return None
    pixels = cv2.imdecode(np.fromfile(image, np.uint8), cv2.IMREAD_COLOR) if image.stat().st_size else None
    if pixels is None:
        source.problems.append(Problem(str(image), "something else", "an image that can be decoded"))
        return None
    boxes = _annotation(annotation, (pixels.shape[1], pixels.shape[0]), source)
    if boxes is None:
        return None
    return Picture(sample_id_of(one.stem), image, sha256_of(image), one.group, one.split, one.attributes, boxes=boxes)


def _annotation(path: Path, size: tuple[int, int], source: Source) -> tuple[Box, ...] | None:
    """The good boxes of the annotation of an image of ``size`` (width, height); None when it cannot be used."""
    problems = source.problems
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
    objects = enumerate(root.findall("object"))
    return tuple(box for index, element in objects for box in _boxes(path, index, element, size, source))


def _boxes(path: Path, index: int, element: ET.Element, size: tuple[int, int], source: Source) -> tuple[Box, ...]:
    corners = [_number(element, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    category = (element.findtext("name") or "").strip()
    expected = None
    if not category:
        expected = "an object with a name"
    elif not all(map(isfinite, corners)):
        expected = "four finite numbers xmin, ymin, xmax, ymax"
    elif corners[2] < corners[0] or corners[3] < corners[1]:
        expected = "xmin ≤ xmax and ymin ≤ ymax"
    bbox = clipped((corners[0] - 1, corners[1] - 1, corners[2], corners[3]), size)
    if expected is None and bbox is None:
        expected = f"a box that meets the {size[0]}×{size[1]} image"
    if expected is not None or bbox is None:
        found = f"'{category}' {[f'{corner:g}' for corner in corners]}"
        source.problems.append(Problem(str(path), found, str(expected), field=f"object.{index}.bndbox"))
        return ()
    ignore = (element.findtext("difficult") or "").strip() == "1"
    return source.categories.boxes(category, bbox, ignore)


def _number(element: ET.Element, path: str) -> float:
    try:
        return float(element.findtext(path) or "nan")
    except ValueError:
        return float("nan")
