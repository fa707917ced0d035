"""A delivery: the directory with three manifests and ``slices.yaml``, checked as a whole before anything trains.

Everything that is wrong comes in one report: bad rows, repeated samples, samples in two splits, files that are
missing, corrupt or outside the delivery, empty splits.
"""

import hashlib
import os
from array import array
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import digest_of, sha256_of
from trainer.contract.images import ImageFacts, check_sample
from trainer.contract.manifest import SPLITS, Row, count_lines, read_lines, read_manifest
from trainer.contract.slices import SLICES_FILE, Slices, read_slices

CLOCK_SKEW = timedelta(days=1)
DECODED_AHEAD = 64
"""Samples whose images are decoded before they are asked for."""

Progress = Callable[[int, int], None]
T = TypeVar("T")
R = TypeVar("R")


def manifest_name(split: str) -> str:
    return f"golden_{split}.manifest"


FILES = (*(manifest_name(split) for split in SPLITS), SLICES_FILE)
"""What a delivery must hold."""


@dataclass(slots=True)
class Sample:
    """A good row and where it stands; ``content`` is its line as delivered, ``facts`` are there with its image."""

    split: str
    line: int
    content: bytes
    row: Row
    facts: ImageFacts | None = None


@dataclass
class Delivery:
    """A delivery whose rows are all good. ``facts`` is filled when the images were checked."""

    root: Path
    rows: dict[str, list[Row]]
    slices: Slices
    digest: str
    facts: dict[str, ImageFacts] = field(default_factory=dict)

    def all_rows(self) -> Iterator[tuple[str, Row]]:
        for split, rows in self.rows.items():
            for row in rows:
                yield split, row


def file_digests(root: Path) -> dict[str, str]:
    """sha256 of each of the delivery's four files.

    Raises:
        ContractError: one of them is not there.
    """
    _refuse_incomplete(root)
    return {name: sha256_of(root / name) for name in FILES}


def read_delivery(root: Path, *, check_images: bool = True, progress: Progress | None = None) -> Delivery:
    """The delivery in ``root``, wholly checked, with all its rows in memory.

    Raises:
        ContractError: names every problem that was found.
    """
    reader = DeliveryReader(root, check_images=check_images, progress=progress)
    delivery = Delivery(root, {split: [] for split in SPLITS}, reader.slices, "")
    for sample in reader:
        delivery.rows[sample.split].append(sample.row)
        if sample.facts is not None:
            delivery.facts[sample.row.sample_id] = sample.facts
    delivery.digest = reader.digest
    return delivery


class DeliveryReader:
    """Reads the delivery in ``root`` once, sample by sample, whatever its size.

    Iterating gives every good row of train, val and test; at its end it raises when anything was wrong. What was made
    of the rows until then is to be thrown away. ``files`` and ``digest`` are known afterwards. ``progress(done,
    total)`` counts lines while images are decoded.

    Raises:
        ContractError: a file of the delivery is missing; from iterating, names every problem that was found.
    """

    def __init__(self, root: Path, *, check_images: bool = True, progress: Progress | None = None) -> None:
        self.root = root
        self.files: dict[str, str] = {}
        self._check_images = check_images
        self._progress = progress or (lambda done, total: None)
        self._problems: list[Problem] = []
        self._masks = hashlib.sha256()
        # Hashes alone, at eight bytes a row: what may be repeated is looked up in the files again.
        self._ids = {split: array("q") for split in SPLITS}
        self._images = {split: array("q") for split in SPLITS}
        _refuse_incomplete(root)
        self.slices = self._read_slices()

    @property
    def digest(self) -> str:
        """The delivery's version: over the four files' contents, and the masks' where a row does not name them."""
        return digest_of({"files": self.files, "masks": self._masks.hexdigest()})

    def __iter__(self) -> Iterator[Sample]:
        samples = (sample for split in SPLITS for sample in self._read_split(split))
        yield from self._with_images(samples) if self._check_images else samples
        self._problems += self._repeats()
        if self._problems:
            raise ContractError(f"delivery {self.root} is refused", self._problems, "Nothing was staged or trained.")

    def _read_slices(self) -> Slices:
        path = self.root / SLICES_FILE
        self.files[SLICES_FILE] = sha256_of(path)
        try:
            return read_slices(path)
        except ContractError as error:
            self._problems += error.problems
            return Slices()

    def _read_split(self, split: str) -> Iterator[Sample]:
        name = manifest_name(split)
        file, digest, found = str(self.root / name), hashlib.sha256(), len(self._problems)
        horizon = datetime.now(UTC) + CLOCK_SKEW
        known = None if self.slices.labels.boxes is None else frozenset(self.slices.labels.boxes)
        ids, images = self._ids[split], self._images[split]
        number = 0
        for number, content, row in read_lines(self.root / name, self._problems, digest.update):
            ids.append(hash(row.sample_id))
            images.append(hash(row.sha256))
            if row.captured_at > horizon:
                self._problems.append(from_the_future(file, number, row, horizon))
            if known is not None and row.boxes and not known.issuperset([box.category for box in row.boxes]):
                self._problems += self._unknown_labels(file, number, row)
            yield Sample(split, number, content, row)
        self.files[name] = digest.hexdigest()
        if not number and len(self._problems) == found:
            self._problems.append(Problem(file, "no rows", "at least one sample"))

    def _unknown_labels(self, file: str, number: int, row: Row) -> Iterator[Problem]:
        known = list(self.slices.labels.boxes or ())
        for index, box in enumerate(row.boxes or ()):
            if box.category not in known:
                expected = f"one of {known} (labels.boxes of {SLICES_FILE})"
                yield Problem(file, f"'{box.category}'", expected, number, f"boxes.{index}.category")

    def _with_images(self, samples: Iterator[Sample]) -> Iterator[Sample]:
        total = sum(count_lines(self.root / manifest_name(split)) for split in SPLITS)

        def check(sample: Sample) -> tuple[ImageFacts | None, list[Problem]]:
            file = str(self.root / manifest_name(sample.split))
            return check_sample(self.root, file, sample.line, sample.row, self.slices)

        for done, (sample, (facts, problems)) in enumerate(_ahead(check, samples), start=1):
            self._problems += problems
            sample.facts = facts
            if facts is not None and facts.semantic_sha256 and sample.row.semantic_sha256 is None:
                self._masks.update(f"{sample.row.sample_id} {facts.semantic_sha256}\n".encode())
            yield sample
            self._progress(done, total)

    def _repeats(self) -> Iterator[Problem]:
        """A sample_id given twice anywhere, and an image (by sha256) that is in two splits."""
        ids = _given_twice(self._ids.values())
        images = _given_twice(set(hashes) for hashes in self._images.values())
        if not ids and not images:
            return
        by_id: dict[str, tuple[str, int]] = {}
        by_image: dict[str, tuple[str, int]] = {}
        for split in SPLITS:
            file = self.root / manifest_name(split)
            for number, row in read_manifest(file, []):
                place = (split, number)
                if hash(row.sample_id) in ids and (first := by_id.setdefault(row.sample_id, place)) != place:
                    found = f"'{row.sample_id}', also at {manifest_name(first[0])}:{first[1]}"
                    yield Problem(str(file), found, "a sample_id used once", number, "sample_id")
                if hash(row.sha256) in images and (twin := by_image.setdefault(row.sha256, place))[0] != split:
                    found = f"{row.sha256}, also at {manifest_name(twin[0])}:{twin[1]}"
                    yield Problem(str(file), found, "an image in one split only", number, "sha256")


def _given_twice(parts: Iterable[Collection[int]]) -> set[int]:
    """The hashes that are there more than once."""
    import numpy as np

    every = np.sort(np.concatenate([np.fromiter(part, np.int64, len(part)) for part in parts]))
    return set(every[1:][every[1:] == every[:-1]].tolist())


def _refuse_incomplete(root: Path) -> None:
    problems = [
        Problem(str(root / name), "nothing", "this file to be in the delivery")
        for name in FILES
        if not (root / name).is_file()
    ]
    if problems:
        raise ContractError(f"{root} is not a delivery, or not a whole one", problems)


def from_the_future(file: str, number: int, row: Row, horizon: datetime) -> Problem:
    expected = f"a time before {horizon:%Y-%m-%dT%H:%MZ} (now, and a day of clock skew): see to the recorder's clock"
    return Problem(file, row.captured_at.isoformat(), expected, number, "captured_at")


def _ahead(function: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Each item with what ``function`` makes of it, in order; threads work on a few items ahead of the reader."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > DECODED_AHEAD:
                first, result = waiting.popleft()
                yield first, result.result()
        for first, result in waiting:
            yield first, result.result()


def count_labels(rows: Iterable[Row], into: Counter[str] | None = None) -> Counter[str]:
    """How many objects of each category, and how many rows with a mask, lanes or tracks, added to ``into``.

    A box that is to be ignored is no object: a category that has no others is there with 0.
    """
    counts: Counter[str] = Counter() if into is None else into
    for row in rows:
        for box in row.boxes or ():
            counts[box.category] += not box.ignore
        counts.update(kind for kind in ("semantic", "lanes", "tracks") if row.has_label(kind))
    return counts
