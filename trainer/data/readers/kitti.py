"""Boxes of KITTI's object benchmark (cvlibs.net/datasets/kitti), as its development kit describes them.

SRC holds ``training/image_2/000123.png``, ``training/label_2/000123.txt`` and, from the development kit,
``mapping/train_mapping.txt`` and ``mapping/train_rand.txt`` (also below ``devkit/`` or ``devkit_object/``).

* **Boxes.** The left, top, right and bottom of each line of 15 columns (pixels, 0-based; the benchmark takes
  ``right - left`` as the width). Truncation, occlusion and all that is in metres are not read.
* **Categories.** As ``--categories`` maps them; by default the benchmark's three classes, Van and Person_sitting to be
  ignored by who looks for cars and pedestrians, DontCare by all.
* **Split.** KITTI has no val split of its own, and its frames are shuffled: the mapping tells the drive of each.
  Whole drives are cut for test until it has 20 % of the images, then for val until it has 15 % of what is left, in the
  order of the sha1 of the drive's name.
* **Times.** Assigned, in the order of (sha1 of the drive, frame): the mapping has the day, not the time.
"""

import argparse
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of
from trainer.contract.manifest import Box
from trainer.data.readers import Progress
from trainer.data.readers.category_map import MAPS, add_category_argument, category_map
from trainer.data.readers.common import add_common_arguments, add_time_arguments, counted, found_directory
from trainer.data.readers.pictures import Picture, Source
from trainer.data.readers.write_pictures import add_picture_arguments, slices_of, write_pictures

LICENCE = "CC-BY-NC-SA-3.0"
MAPPINGS = ("mapping", "devkit/mapping", "devkit_object/mapping")
COLUMNS = 15
BBOX = slice(3, 7)  # of the numbers after the type


@dataclass(frozen=True)
class Origin:
    """Where a frame of the benchmark comes from: its drive (``2011_09_26_drive_0005``) and its number there."""

    drive: str
    frame: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    add_time_arguments(parser)
    add_picture_arguments(parser, LICENCE)
    add_category_argument(parser, MAPS / "kitti.yaml")


def run(arguments: argparse.Namespace, progress: Progress | None) -> None:
    """Write the delivery; see the module for its rules.

    Raises:
        ContractError: names every problem of the source.
    """
    images = found_directory(arguments.src, ["training/image_2"])
    labels = found_directory(arguments.src, ["training/label_2"])
    origins = read_mapping(found_directory(arguments.src, MAPPINGS))
    source = Source(category_map(arguments))
    stems = sorted({path.stem for path in images.glob("*.png")} | {path.stem for path in labels.glob("*.txt")})
    for stem in counted(stems, progress):
        source.pictures += _picture(images / f"{stem}.png", labels / f"{stem}.txt", origins, source)
    write_pictures(arguments, source, slices_of(source))


def read_mapping(directory: Path) -> dict[str, Origin]:
    """The origin of each frame by its six digits: entry i of ``train_rand.txt`` is the line of frame i, from 1.

    Raises:
        ContractError: a file is missing or not as the development kit has it.
    """
    lines = _text(directory / "train_mapping.txt").splitlines()
    numbers = _text(directory / "train_rand.txt").replace(",", " ").split()
    origins, problems = {}, []
    for frame, number in enumerate(numbers):
        line = int(number) if number.isdecimal() else 0
        words = lines[line - 1].split() if 1 <= line <= len(lines) else []
        if len(words) == 3:
            origins[f"{frame:06d}"] = Origin(words[1].removesuffix("_sync"), words[2])
        elif not words:
            expected = f"the number of one of the {len(lines)} lines of train_mapping.txt"
            problems.append(Problem(str(directory / "train_rand.txt"), f"'{number}'", expected, field=str(frame)))
        else:
            found, expected = f"'{lines[line - 1]}'", "a date, a drive and a frame"
            problems.append(Problem(str(directory / "train_mapping.txt"), found, expected, line))
    if problems:
        raise ContractError(f"{directory} is not usable", problems)
    return origins


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        problem = Problem(str(path), error.strerror or str(error), "a file of KITTI's development kit")
        raise ContractError("the source is not usable", [problem]) from None


def _picture(image: Path, label: Path, origins: dict[str, Origin], source: Source) -> list[Picture]:
    origin = origins.get(image.stem)
    problems = [Problem(str(path), "nothing", "a file") for path in (image, label) if not path.is_file()]
    if origin is None:
        problems.append(Problem(str(label), f"frame {image.stem}", "one that train_rand.txt has"))
    source.problems += problems
    if problems or origin is None:
        return []
    attributes = {"drive": origin.drive, "frame": image.stem}
    boxes = tuple(box for number, line in enumerate(_text(label).splitlines(), start=1)
                  for box in _boxes(label, number, line, source))  # fmt: skip
    sample_id = f"{origin.drive}-{origin.frame}"
    return [Picture(sample_id, image, sha256_of(image), origin.drive, attributes=attributes, boxes=boxes)]


def _boxes(path: Path, number: int, line: str, source: Source) -> tuple[Box, ...]:
    words = line.split()
    if not words:
        return ()
    values = [_number(word) for word in words[1:]]
    if len(words) != COLUMNS or not all(map(isfinite, values)):
        source.problems.append(Problem(str(path), f"'{line}'", f"{COLUMNS} columns: a type and numbers", number))
        return ()
    left, top, right, bottom = values[BBOX]
    if right <= left or bottom <= top:
        source.problems.append(Problem(str(path), f"'{line}'", "left < right and top < bottom", number))
        return ()
    return source.categories.boxes(words[0], (left, top, right - left, bottom - top))


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return float("nan")
