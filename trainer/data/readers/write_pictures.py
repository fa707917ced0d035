"""From the pictures of a source to a delivery.

What is bad is refused in one report; the pictures go into splits by the rules of ``splits.py``; those without a
capture time are given one by the rule of ``common.py``.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Any

from pydantic import ValidationError

from trainer.contract.errors import ContractError, Problem
from trainer.contract.manifest import SPLITS, Row
from trainer.data.delivery_writer import DeliveryWriter
from trainer.data.readers.common import SAMPLE_ID, assigned_times, origin_of, summary
from trainer.data.readers.pictures import Picture, Source
from trainer.data.readers.splits import split_pictures

UNSTATED = "unstated"
CROWDED = 8
MOST_VALUES = 12
"""Attributes with more values than this do not become slices."""


def add_picture_arguments(parser: argparse.ArgumentParser, licence: str = UNSTATED) -> None:
    parser.add_argument(
        "--licence", metavar="TEXT", default=licence, help=f"licence written on each row (default: {licence})"
    )
    parser.add_argument("--skip-bad", action="store_true", help="leave out what is bad, and say how much that was")


def slices_of(source: Source, attributes: Iterable[str] = ()) -> dict[str, Any]:
    """The label map, a slice for each value of each of ``attributes`` that has several, and one of crowded images."""
    slices: list[dict[str, Any]] = []
    for name in attributes:
        values = sorted({value for picture in source.pictures if (value := picture.attributes.get(name))})
        for value in values if 1 < len(values) <= MOST_VALUES else ():
            taken = {one["name"] for one in slices} | {"crowded"}
            slices.append({"name": _slice_name(name, value, taken), "where": {f"attributes.{name}": value}})
    if not any(picture.boxes is not None for picture in source.pictures):
        return {"slices": slices}
    slices.append({"name": "crowded", "where": {"labels.boxes": {"min": CROWDED}}})
    return {"labels": {"boxes": list(source.categories.targets)}, "slices": slices}


def _slice_name(attribute: str, value: str, taken: set[str]) -> str:
    """A name that a slice may have; values that differ only in what a name cannot hold are numbered."""
    allowed = (letter if letter.isascii() and (letter.isalnum() or letter in " _.-") else "-" for letter in value)
    name = f"{attribute}-{''.join(allowed)}"[:64]
    numbered = (name if number == 1 else f"{name[:60]}-{number}" for number in count(1))
    return next(one for one in numbered if one not in taken)


def write_pictures(arguments: argparse.Namespace, source: Source, slices: Mapping[str, Any]) -> None:
    """Write the delivery of ``source`` and say how many samples went into which split.

    Raises:
        ContractError: names everything that is bad, unless ``--skip-bad``; repeated or impossible sample ids; unknown
            categories; a split that stays empty.
    """
    _refuse_bad(arguments, source)
    splits, moved = split_pictures(source.pictures)
    if empty := [split for split in SPLITS if not splits[split]]:
        found = f"{len(source.pictures)} images, none for {', '.join(empty)}"
        problem = Problem(str(arguments.src), found, "images of at least three groups that can be told apart")
        raise ContractError(f"{arguments.src} cannot be split", [problem], "Nothing was written.")
    times = {split: _times(found, arguments) for split, found in splits.items()}
    for note in [*source.notes, *_said(arguments, source, moved)]:
        print(note)
    writer = DeliveryWriter(arguments.out)
    rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for split, pictures in splits.items():
        for picture, moment in zip(pictures, times[split], strict=True):
            rows[split].append(_row(picture, moment, writer, arguments))
    writer.finish(rows, slices)
    summary({split: len(pictures) for split, pictures in splits.items()}, arguments.out)


def _refuse_bad(arguments: argparse.Namespace, source: Source) -> None:
    never = [*source.categories.unknown(), *_id_problems(source.pictures)]
    if never or (source.problems and not arguments.skip_bad):
        bad = [] if arguments.skip_bad else source.problems
        advice = "Nothing was written." + (" With --skip-bad they are left out." if not never else "")
        raise ContractError(f"{arguments.src} is not usable", [*never, *bad], advice)


def _id_problems(pictures: Sequence[Picture]) -> Iterator[Problem]:
    first: dict[str, Picture] = {}
    for picture in pictures:
        try:
            SAMPLE_ID.validate_python(picture.sample_id)
        except ValidationError:
            found = f"'{picture.sample_id}' as the sample_id"
            yield Problem(str(picture.image), found, "letters, digits, '_' and '-', at most 128")
        if (twin := first.setdefault(picture.sample_id, picture)) is not picture:
            found = f"the sample_id '{picture.sample_id}', also that of {twin.image}"
            yield Problem(str(picture.image), found, "an id used once")


def _times(pictures: Sequence[Picture], arguments: argparse.Namespace) -> list[datetime]:
    recorded = [picture.captured_at for picture in pictures if picture.captured_at is not None]
    return recorded or assigned_times(len(pictures), arguments.start, arguments.windows)


def _said(arguments: argparse.Namespace, source: Source, moved: int) -> Iterator[str]:
    if source.problems:
        yield f"left out {len(source.problems)} bad boxes, annotations or images (--skip-bad)"
    if moved:
        yield f"moved {moved} images to the split of the others in their group"
    if arguments.licence == UNSTATED and any(picture.licence is None for picture in source.pictures):
        yield f"licence is '{UNSTATED}': say it with --licence"


def _row(picture: Picture, moment: datetime, writer: DeliveryWriter, arguments: argparse.Namespace) -> Row:
    image = writer.copy(picture.image, f"images/{picture.sample_id}{picture.image.suffix.lower()}")
    return Row.model_validate(
        {
            "sample_id": picture.sample_id,
            "source-ref": image.reference,
            "sha256": image.sha256,
            "captured_at": moment,
            "captured_at_source": "assigned" if picture.captured_at is None else "recorded",
            "attributes": dict(picture.attributes),
            "boxes": picture.boxes,
            "lanes": picture.lanes,
            "tracks": picture.tracks,
            "licence": picture.licence or arguments.licence,
            "origin": origin_of(arguments),
        }
    )
