"""Lanes as TuSimple's lane detection challenge has them (github.com/TuSimple/tusimple-benchmark, doc/lane_detection).

SRC holds the label files ``*label*.json``, a JSON object a line (``raw_file``, ``lanes``, ``h_samples``), and the
images; both may lie below ``train_set/`` and ``test_set/``. A ``raw_file`` is ``clips/<drive>/<clip>/20.jpg``.

* **Lanes.** The points (x, h) of each lane, from the top of the image down; x below 0 (-2) is no point. A lane with
  fewer than two points is left out, and the number of those is printed.
* **Split.** ``test_label*.json`` is test, ``label_data_0531.json`` val and all others train, as lane detection papers
  take them. Where nothing is in test, the last fifth of each drive's train clips is cut for it, then, where nothing is
  in val, the last fifth of what is left.
* **Times.** Assigned, in the order of the sha1 of the clip: each window gets a mixture.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from trainer.contract.errors import ContractError, Problem, problems_of
from trainer.contract.files import sha256_of
from trainer.contract.manifest import Point
from trainer.data.readers import Progress
from trainer.data.readers.common import add_common_arguments, add_time_arguments, counted, natural
from trainer.data.readers.pictures import Picture, Source, found_image, sample_id_of
from trainer.data.readers.splits import cut_tail
from trainer.data.readers.write_pictures import add_picture_arguments, write_pictures

LABELS = "*label*.json"
PARTS = ("", "train_set", "test_set")
VAL = "0531"
SLICES: dict[str, Any] = {
    "slices": [
        {"name": "up to three lanes", "where": {"labels.lanes": {"max": 3}}},
        {"name": "four lanes", "where": {"labels.lanes": 4}},
        {"name": "five lanes", "where": {"labels.lanes": {"min": 5}}},
    ]
}


class Label(BaseModel):
    """One line of a label file. ``lanes`` are x of each lane at the heights ``h_samples``, in pixels."""

    model_config = ConfigDict(frozen=True)

    raw_file: str
    lanes: list[list[FiniteFloat]]
    h_samples: list[FiniteFloat]


@dataclass(frozen=True)
class _Line:
    path: Path
    number: int
    content: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    add_time_arguments(parser)
    add_picture_arguments(parser)


def run(arguments: argparse.Namespace, progress: Progress | None) -> None:
    """Write the delivery; see the module for its rules.

    Raises:
        ContractError: names every problem of the source.
    """
    source = Source()
    short = 0
    for line in counted(_lines(arguments.src), progress):
        label = _label(line, source)
        if label is not None:
            source.pictures += _picture(line, label, arguments.src, source)
            short += sum(len(lane) < 2 for lane in _points(label))
    if short:
        source.notes.append(f"left out {short} lanes with fewer than two points")
    source.pictures = split_clips(source.pictures)
    write_pictures(arguments, source, SLICES)


def split_clips(pictures: list[Picture]) -> list[Picture]:
    """``pictures`` with the splits that the source lacks cut from the end of each drive."""
    for split in ("test", "val"):
        if any(picture.split == split for picture in pictures):
            continue
        drives: dict[str, list[Picture]] = defaultdict(list)
        for picture in sorted(pictures, key=lambda picture: natural(picture.sample_id)):
            if picture.split == "train":
                drives[picture.attributes["drive"]].append(picture)
        cut = {picture.sample_id for members in drives.values() for picture in cut_tail(members)[1]}
        pictures = [replace(picture, split=split) if picture.sample_id in cut else picture for picture in pictures]
    return pictures


def _lines(src: Path) -> list[_Line]:
    paths = sorted(path for part in PARTS for path in (src / part).glob(LABELS))
    if not paths:
        raise ContractError(f"{src} is not usable", [Problem(str(src), "none of them", f"label files {LABELS}")])
    return [
        _Line(path, number, content)
        for path in paths
        for number, content in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if content.strip()
    ]


def _label(line: _Line, source: Source) -> Label | None:
    try:
        label = Label.model_validate_json(line.content)
    except ValidationError as error:
        source.problems += problems_of(error, str(line.path), line.number)
        return None
    uneven = [index for index, lane in enumerate(label.lanes) if len(lane) != len(label.h_samples)]
    source.problems += [
        Problem(
            str(line.path),
            f"{len(label.lanes[index])} values",
            f"one for each of the {len(label.h_samples)} h_samples",
            line.number,
            f"lanes.{index}",
        )
        for index in uneven
    ]
    return None if uneven else label


def _picture(line: _Line, label: Label, src: Path, source: Source) -> list[Picture]:
    image = found_image((line.path.parent, *(src / part for part in PARTS)), label.raw_file)
    if image is None:
        found, expected = f"'{label.raw_file}'", "an image below SRC"
        source.problems.append(Problem(str(line.path), found, expected, line.number, "raw_file"))
        return []
    clip = PurePosixPath(label.raw_file)
    sample_id = sample_id_of(str(clip.with_suffix("")).removeprefix("clips/"))
    return [
        Picture(
            sample_id,
            image,
            sha256_of(image),
            group=sample_id,
            split=_split(line.path),
            attributes={"drive": clip.parent.parent.name},
            lanes=tuple(lane for lane in _points(label) if len(lane) > 1),
        )
    ]


def _split(path: Path) -> str:
    if path.name.startswith("test_label"):
        return "test"
    return "val" if VAL in path.name else "train"


def _points(label: Label) -> Iterator[tuple[Point, ...]]:
    for lane in label.lanes:
        yield tuple((x, height) for x, height in zip(lane, label.h_samples, strict=True) if x >= 0)
