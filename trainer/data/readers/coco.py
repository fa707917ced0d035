"""Boxes as COCO's instances files have them (cocodataset.org, "Data format").

SRC holds the annotation files and the images. The files of each split are given with ``--train``, ``--val`` and
``--test``, paths below SRC; without any of them ``annotations/instances_train*.json`` and so on are taken. An image
of ``instances_NAME.json`` lies in ``NAME/``, ``images/NAME/``, ``images/`` or SRC itself.

* **Boxes.** ``bbox`` (x, y, width, height from the top left corner) clipped to the image; ``iscrowd`` becomes
  ``ignore``; segmentations are not read. Boxes without an area, of which COCO's own train2017 has two, images that are
  not there and ids that nothing has are problems, all in one report; ``--skip-bad`` leaves them out.
* **Categories.** As they are named, or as ``--categories`` maps them.
* **Split.** By file. Where nothing is in test, 20 % of train's images are cut for it in the order of the sha1 of
  their id, and 15 % of what is left for val where nothing is in val. Images of the same bytes stay together.
* **Times.** Assigned, in the order of the sha1 of the id: ``date_captured`` in COCO's own files is when an image was
  collected, without a time zone.
* **Licence.** Each image's own, where the file has it, else ``--licence``.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of
from trainer.contract.manifest import SPLITS, Box
from trainer.data.readers import Progress
from trainer.data.readers.category_map import BBox, add_category_argument, category_map
from trainer.data.readers.common import add_common_arguments, add_time_arguments, counted, read_json
from trainer.data.readers.pictures import Picture, Source, clipped, found_image, sample_id_of
from trainer.data.readers.write_pictures import add_picture_arguments, slices_of, write_pictures

PREFIX = "instances_"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Numbered(_Model):
    id: int


class _Licence(_Numbered):
    name: str = ""


class _Image(_Numbered):
    file_name: str
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    license: int | None = None


class _Annotation(_Numbered):
    image_id: int
    category_id: int
    bbox: BBox
    iscrowd: bool = False


class _Category(_Numbered):
    name: Annotated[str, Field(min_length=1)]


class Instances(_Model):
    """An annotation file, as far as it is read."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]
    licenses: list[_Licence] = []


INSTANCES = TypeAdapter(Instances)


@dataclass(frozen=True)
class _Listed:
    """An image of an annotation file, number ``index`` there."""

    split: str
    path: Path
    index: int
    image: _Image
    licence: str | None
    boxes: tuple[Box, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    add_time_arguments(parser)
    add_picture_arguments(parser)
    add_category_argument(parser)
    for split in SPLITS:
        text = f"an annotation file of {split} below SRC; may be given again"
        parser.add_argument(f"--{split}", metavar="FILE", action="append", default=[], help=text)


def run(arguments: argparse.Namespace, progress: Progress | None) -> None:
    """Write the delivery; see the module for its rules.

    Raises:
        ContractError: names every problem of the source.
    """
    source = Source(category_map(arguments))
    listed = [one for split, path in _files(arguments) for one in _listed(split, path, source)]
    for one in counted(listed, progress):
        source.pictures += _picture(one, arguments.src, source)
    write_pictures(arguments, source, slices_of(source))


def _files(arguments: argparse.Namespace) -> list[tuple[str, Path]]:
    given = [(split, arguments.src / name) for split in SPLITS for name in getattr(arguments, split)]
    folder = arguments.src / "annotations"
    usual = [(split, path) for split in SPLITS for path in sorted(folder.glob(f"{PREFIX}{split}*.json"))]
    if not given and not usual:
        expected = f"{PREFIX}<split>*.json there, or --train, --val or --test"
        raise ContractError(f"{arguments.src} is not usable", [Problem(str(folder), "none of them", expected)])
    return given or usual


def _listed(split: str, path: Path, source: Source) -> Iterator[_Listed]:
    instances = read_json(path, INSTANCES)
    if repeated := list(_repeated(path, instances)):
        raise ContractError(f"{path} is not usable", repeated)
    licences = {licence.id: licence.name for licence in instances.licenses if licence.name}
    boxes = _boxes(path, instances, source)
    for index, image in enumerate(instances.images):
        licence = None if image.license is None else licences.get(image.license)
        yield _Listed(split, path, index, image, licence, tuple(boxes[image.id]))


def _repeated(path: Path, instances: Instances) -> Iterator[Problem]:
    lists: dict[str, Sequence[_Numbered]] = {"images": instances.images, "categories": instances.categories}
    for kind, rows in lists.items():
        seen: set[int] = set()
        for index, row in enumerate(rows):
            if row.id in seen:
                yield Problem(str(path), str(row.id), "an id used once", field=f"{kind}.{index}.id")
            seen.add(row.id)


def _boxes(path: Path, instances: Instances, source: Source) -> dict[int, list[Box]]:
    """The good boxes of each image by its id."""
    sizes = {image.id: (image.width, image.height) for image in instances.images}
    names = {category.id: category.name for category in instances.categories}
    boxes: dict[int, list[Box]] = {image: [] for image in sizes}
    for index, one in enumerate(instances.annotations):
        bbox = None
        if one.image_id not in sizes:
            field, found, expected = "image_id", str(one.image_id), "the id of an image"
        elif one.category_id not in names:
            field, found, expected = "category_id", str(one.category_id), "the id of a category"
        else:
            bbox = _within(one.bbox, sizes[one.image_id])
            width, height = sizes[one.image_id]
            field, found = "bbox", str(list(one.bbox))
            expected = f"a box with an area within the {width}×{height} image"
        if bbox is None:
            source.problems.append(Problem(str(path), found, expected, field=f"annotations.{index}.{field}"))
        else:
            boxes[one.image_id] += source.categories.boxes(names[one.category_id], bbox, one.iscrowd)
    return boxes


def _within(bbox: BBox, size: tuple[int, int]) -> BBox | None:
    corners = (bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1] + bbox[3])
    inside = corners[0] >= 0 and corners[1] >= 0 and corners[2] <= size[0] and corners[3] <= size[1]
    part = clipped(corners, size)
    return bbox if inside and part is not None else part


def _picture(one: _Listed, src: Path, source: Source) -> list[Picture]:
    name = one.path.stem.removeprefix(PREFIX)
    path = found_image((src / name, src / "images" / name, src / "images", src), one.image.file_name)
    if path is None:
        expected = f"an image in {name}/, images/{name}/, images/ or SRC"
        field = f"images.{one.index}.file_name"
        source.problems.append(Problem(str(one.path), f"'{one.image.file_name}'", expected, field=field))
        return []
    sample_id = sample_id_of(str(Path(one.image.file_name).with_suffix("")))
    return [Picture(sample_id, path, sha256_of(path), sample_id, one.split, licence=one.licence, boxes=one.boxes)]
