"""A delivery: the directory with three manifests and ``slices.yaml``, checked as a whole before anything trains.

Everything that is wrong comes in one report: bad rows, repeated samples, samples in two splits, files that are
missing, corrupt or outside the delivery, empty splits.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import digest_of, sha256_of
from trainer.contract.images import ImageFacts, check_sample
from trainer.contract.manifest import SPLITS, Row, read_manifest
from trainer.contract.slices import SLICES_FILE, Slices, read_slices

CLOCK_SKEW = timedelta(days=1)


def manifest_name(split: str) -> str:
    return f"golden_{split}.manifest"


FILES = (*(manifest_name(split) for split in SPLITS), SLICES_FILE)
"""What a delivery must hold."""


@dataclass
class Delivery:
    """A delivery whose rows are all good. ``facts`` is filled when the images were checked."""

    root: Path
    rows: dict[str, list[Row]]
    slices: Slices
    facts: dict[str, ImageFacts] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """sha256 over the four files' contents and the masks' digests: the delivery's version."""
        masks = {sample: facts.semantic_sha256 for sample, facts in self.facts.items() if facts.semantic_sha256}
        return digest_of({"files": file_digests(self.root), "masks": masks})

    def all_rows(self) -> Iterator[tuple[str, Row]]:
        for split, rows in self.rows.items():
            for row in rows:
                yield split, row


def file_digests(root: Path) -> dict[str, str]:
    """sha256 of each of the delivery's four files."""
    return {name: sha256_of(root / name) for name in FILES}


def read_delivery(
    root: Path, *, check_images: bool = True, progress: Callable[[int, int], None] | None = None
) -> Delivery:
    """The delivery in ``root``, wholly checked.

    ``progress(done, total)`` is called while the images are decoded.

    Raises:
        ContractError: names every problem that was found.
    """
    problems = [
        Problem(str(root / name), "nothing", "this file to be in the delivery")
        for name in FILES
        if not (root / name).is_file()
    ]
    if problems:
        raise ContractError(f"delivery {root} is not complete", problems)
    slices = _read_slices(root, problems)
    rows = {split: _read_split(root, split, problems) for split in SPLITS}
    problems += _repeats(root, rows)
    problems += _unknown_labels(root, rows, slices)
    facts = {}
    if check_images:
        facts = _check_images(root, rows, slices, problems, progress or (lambda done, total: None))
    if problems:
        raise ContractError(f"delivery {root} is refused", problems, "Nothing was staged or trained.")
    return Delivery(root, {split: [row for _, row in numbered] for split, numbered in rows.items()}, slices, facts)


Numbered = list[tuple[int, Row]]


def _read_slices(root: Path, problems: list[Problem]) -> Slices:
    try:
        return read_slices(root / SLICES_FILE)
    except ContractError as error:
        problems += error.problems
        return Slices()


def _read_split(root: Path, split: str, problems: list[Problem]) -> Numbered:
    path = root / manifest_name(split)
    before = len(problems)
    numbered = list(read_manifest(path, problems))
    if not numbered and len(problems) == before:
        problems.append(Problem(str(path), "no rows", "at least one sample"))
    horizon = datetime.now(UTC) + CLOCK_SKEW
    problems += [
        Problem(str(path), row.captured_at.isoformat(), "a time that is not in the future", number, "captured_at")
        for number, row in numbered
        if row.captured_at > horizon
    ]
    return numbered


def _repeats(root: Path, rows: dict[str, Numbered]) -> Iterator[Problem]:
    """A sample_id given twice anywhere, and an image (by sha256) that is in two splits."""
    by_id: dict[str, tuple[str, int]] = {}
    by_image: dict[str, tuple[str, int]] = {}
    for split, numbered in rows.items():
        file = str(root / manifest_name(split))
        for number, row in numbered:
            first = by_id.setdefault(row.sample_id, (split, number))
            if first != (split, number):
                place = f"{manifest_name(first[0])}:{first[1]}"
                yield Problem(file, f"'{row.sample_id}', also at {place}", "a sample_id used once", number, "sample_id")
            twin = by_image.setdefault(row.sha256, (split, number))
            if twin[0] != split:
                place = f"{manifest_name(twin[0])}:{twin[1]}"
                yield Problem(file, f"{row.sha256}, also at {place}", "an image in one split only", number, "sha256")


def _unknown_labels(root: Path, rows: dict[str, Numbered], slices: Slices) -> Iterator[Problem]:
    known = slices.labels.boxes
    if known is None:
        return
    for split, numbered in rows.items():
        for number, row in numbered:
            for index, box in enumerate(row.boxes or ()):
                if box.category not in known:
                    yield Problem(
                        str(root / manifest_name(split)),
                        f"'{box.category}'",
                        f"one of {list(known)} (labels.boxes of {SLICES_FILE})",
                        number,
                        f"boxes.{index}.category",
                    )


def _check_images(
    root: Path, rows: dict[str, Numbered], slices: Slices, problems: list[Problem], progress: Callable[[int, int], None]
) -> dict[str, ImageFacts]:
    work = [(split, number, row) for split, numbered in rows.items() for number, row in numbered]
    facts = {}

    def check(item: tuple[str, int, Row]) -> tuple[ImageFacts | None, list[Problem]]:
        split, number, row = item
        return check_sample(root, str(root / manifest_name(split)), number, row, slices)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done, (item, (fact, found)) in enumerate(zip(work, pool.map(check, work), strict=True), start=1):
            problems += found
            if fact is not None:
                facts[item[2].sample_id] = fact
            progress(done, len(work))
    return facts


def count_labels(rows: Iterable[Row]) -> Counter[str]:
    """How many objects of each category, and how many rows with a mask, lanes or tracks.

    A box that is to be ignored is no object: a category that has no others is there with 0.
    """
    counts: Counter[str] = Counter()
    for row in rows:
        for box in row.boxes or ():
            counts[box.category] += not box.ignore
        counts.update(kind for kind in ("semantic", "lanes", "tracks") if row.has_label(kind))
    return counts
