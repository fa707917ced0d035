"""Boxes as Pascal VOC writes them, with a csv of what else is known of each image.

SRC holds ``images/`` (or ``JPEGImages/``), ``voc/`` (or ``Annotations/``) with one XML an image of the same stem,
and a csv with a row an image. Without a csv every annotation is a sample without attributes. Characters that a
sample_id cannot have become ``-``.

* **Boxes.** VOC's pixel coordinates are 1-based and inclusive (VOC2012 devkit, section 3.3): ``x = xmin - 1``,
  ``w = xmax - xmin + 1``, and so for y and h; then clipped to the image. ``difficult`` becomes ``ignore``. Boxes
  without an area or wholly outside, annotations that cannot be read or are of another image size are problems,
  all in one report; ``--skip-bad`` leaves them out and prints how many.
* **Groups.** The images of a group (``--group-column``), and images with the same bytes, never part: where the
  csv has them in different splits, all go to test before val before train, and the number moved is printed.
* **Split.** From the csv's split column. Where nothing is in test, test is cut from train: groups in the order of
  the sha1 of their name until 20 % of train's images are reached. Without a split column, val (15 % of what is
  left) is cut the same way after test.
* **Times.** The source has none; there are no sequences, so (sha1 of the group, id) is the order in which samples
  are laid over the windows by the rule in ``common.py``: each window gets a mixture, near-duplicates stay together.
"""

import argparse
from collections.abc import Sequence
from itertools import count
from typing import Any

from trainer.contract.errors import ContractError
from trainer.contract.manifest import SPLITS, Row
from trainer.data.delivery_writer import DeliveryWriter
from trainer.data.readers import Progress
from trainer.data.readers.common import add_common_arguments, assigned_times, origin_of, summary
from trainer.data.readers.voc_source import Options, Picture, read_source
from trainer.data.readers.voc_split import split_pictures

DEFAULT_CSV = "manifest.csv"
DEFAULT_ATTRIBUTES = ("weather", "fog_kind", "time_of_day")
CROWDED = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    parser.add_argument("--csv", metavar="FILE", help=f"csv with a row an image, below SRC (default {DEFAULT_CSV})")
    parser.add_argument("--id-column", metavar="NAME", default="id", help="column with the image's stem (default id)")
    parser.add_argument(
        "--attributes",
        metavar="A,B",
        help=f"columns that become attributes (default those of {','.join(DEFAULT_ATTRIBUTES)} that there are)",
    )
    parser.add_argument("--split-column", metavar="NAME", help="column with train, val or test (default split)")
    parser.add_argument("--group-column", metavar="NAME", help="column with the group of near-duplicates")
    parser.add_argument("--licence", metavar="TEXT", default="unstated", help="licence written on each row")
    parser.add_argument("--skip-bad", action="store_true", help="leave out what is bad, and say how much that was")


def run(arguments: argparse.Namespace, progress: Progress | None) -> None:
    """Write the delivery; see the module for its rules.

    Raises:
        ContractError: names every problem of the source.
    """
    source = read_source(arguments.src, _options(arguments), progress)
    if source.problems and not arguments.skip_bad:
        advice = "Nothing was written. With --skip-bad they are left out."
        raise ContractError(f"{arguments.src} is not usable", source.problems, advice)
    splits, moved = split_pictures(source.pictures)
    for note in [*source.notes, *_said(arguments, len(source.problems), moved)]:
        print(note)
    _write(arguments, splits)
    summary({split: len(pictures) for split, pictures in splits.items()}, arguments.out)


def slices_of(pictures: Sequence[Picture]) -> dict[str, Any]:
    """The label map of what was seen, and a slice for each value of each attribute that has several."""
    slices: list[dict[str, Any]] = []
    for name in sorted({name for picture in pictures for name in picture.attributes}):
        values = sorted({value for picture in pictures if (value := picture.attributes.get(name))})
        if 1 < len(values) <= 12:
            for value in values:
                taken = {one["name"] for one in slices} | {"crowded"}
                slices.append({"name": _slice_name(name, value, taken), "where": {f"attributes.{name}": value}})
    slices.append({"name": "crowded", "where": {"labels.boxes": {"min": CROWDED}}})
    categories = sorted({box.category for picture in pictures for box in picture.boxes})
    return {"labels": {"boxes": categories}, "slices": slices}


def _slice_name(attribute: str, value: str, taken: set[str]) -> str:
    """A name that a slice may have; values that differ only in what a name cannot hold are numbered."""
    allowed = (letter if letter.isascii() and (letter.isalnum() or letter in " _.-") else "-" for letter in value)
    name = f"{attribute}-{''.join(allowed)}"[:64]
    numbered = (name if number == 1 else f"{name[:60]}-{number}" for number in count(1))
    return next(one for one in numbered if one not in taken)


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        csv=arguments.csv or DEFAULT_CSV,
        csv_required=arguments.csv is not None,
        id_column=arguments.id_column,
        attributes=tuple(arguments.attributes.split(",")) if arguments.attributes else DEFAULT_ATTRIBUTES,
        attributes_required=bool(arguments.attributes),
        split_column=arguments.split_column or "split",
        split_required=arguments.split_column is not None,
        group_column=arguments.group_column or "dup_group",
        group_required=arguments.group_column is not None,
    )


def _said(arguments: argparse.Namespace, bad: int, moved: int) -> list[str]:
    notes = []
    if bad:
        notes.append(f"left out {bad} bad boxes or annotations (--skip-bad)")
    if moved:
        notes.append(f"moved {moved} images to the split of the others in their group")
    if arguments.licence == "unstated":
        notes.append("licence is 'unstated': say it with --licence")
    return notes


def _write(arguments: argparse.Namespace, splits: dict[str, list[Picture]]) -> None:
    times = {split: assigned_times(len(found), arguments.start, arguments.windows) for split, found in splits.items()}
    writer = DeliveryWriter(arguments.out)
    rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for split, pictures in splits.items():
        for picture, moment in zip(pictures, times[split], strict=True):
            given = {"captured_at": moment, "licence": arguments.licence, "origin": origin_of(arguments)}
            rows[split].append(_row(picture, writer, given))
    writer.finish(rows, slices_of([picture for pictures in splits.values() for picture in pictures]))


def _row(picture: Picture, writer: DeliveryWriter, given: dict[str, Any]) -> Row:
    image = writer.copy(picture.image, f"images/{picture.sample_id}{picture.image.suffix.lower()}")
    return Row.model_validate(
        {
            "sample_id": picture.sample_id,
            "source-ref": image.reference,
            "sha256": image.sha256,
            "captured_at_source": "assigned",
            "attributes": dict(picture.attributes),
            "boxes": picture.boxes,
            **given,
        }
    )
