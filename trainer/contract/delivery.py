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
from trainer.contract.files import OutsideRoot, digest_of, inside, sha256_of
from trainer.contract.manifest import IMAGE_SUFFIXES, SPLITS, Row, is_uri, read_manifest
from trainer.contract.slices import Slices, read_slices

SLICES_FILE = "slices.yaml"
CLOCK_SKEW = timedelta(days=1)


def manifest_name(split: str) -> str:
    return f"golden_{split}.manifest"


FILES = (*(manifest_name(split) for split in SPLITS), SLICES_FILE)
"""What a delivery must hold."""


@dataclass
class ImageFacts:
    """What decoding one sample told: image size, mean luma (0-255, Rec. 601), its spread, and the mask's digest."""

    width: int
    height: int
    luma_mean: float
    luma_std: float
    semantic_sha256: str | None = None


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


def read_delivery(root: Path, *, check_images: bool = True, progress: Callable[[int, int], None] | None = None) -> Delivery:
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


def check_sample(
    root: Path, file: str, number: int, row: Row, slices: Slices
) -> tuple[ImageFacts | None, list[Problem]]:
    """Read and decode one row's image and mask; what is wrong with them and with the labels drawn on them."""
    problems: list[Problem] = []
    image = _decoded(root, row.source_ref, row.sha256, "source-ref", file, number, problems)
    if image is None:
        return None, problems
    height, width = image.shape[:2]
    luma = image @ (0.114, 0.587, 0.299)  # OpenCV decodes to BGR
    facts = ImageFacts(width, height, float(luma.mean()), float(luma.std()))
    for index, box in enumerate(row.boxes or ()):
        x, y, w, h = box.bbox
        if x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1:
            expected = f"a box within the {width}×{height} image (to one pixel)"
            problems.append(Problem(file, str(list(box.bbox)), expected, number, f"boxes.{index}.bbox"))
    if row.semantic_ref is not None:
        mask = _decoded(root, row.semantic_ref, row.semantic_sha256, "semantic-ref", file, number, problems)
        if mask is not None:
            facts.semantic_sha256 = row.semantic_sha256 or sha256_of(inside(root, row.semantic_ref))
            problems += _mask_problems(mask, (height, width), slices, file, number)
    return facts, problems


def _mask_problems(mask, size: tuple[int, int], slices: Slices, file: str, number: int) -> Iterator[Problem]:  # type: ignore[no-untyped-def]
    import numpy as np

    if mask.ndim != 2 or mask.dtype != np.uint8:
        yield Problem(file, f"shape {mask.shape}, {mask.dtype}", "one channel of 8 bits", number, "semantic-ref")
        return
    if mask.shape != size:
        found, expected = (f"{shape[1]}×{shape[0]}" for shape in (mask.shape, size))
        yield Problem(file, f"a mask of {found}", f"the image's size, {expected}", number, "semantic-ref")
    names = slices.labels.semantic
    if names is not None:
        unknown = sorted(set(np.unique(mask).tolist()) - set(range(len(names.classes))) - {names.ignore_id})
        if unknown:
            expected = f"0…{len(names.classes) - 1} or {names.ignore_id} (labels.semantic of {SLICES_FILE})"
            yield Problem(file, f"mask values {unknown}", expected, number, "semantic-ref")


def _decoded(root: Path, reference: str, sha256: str | None, name: str, file: str, number: int, problems: list[Problem]):  # type: ignore[no-untyped-def]
    """The decoded picture, or None with a problem that says why not."""
    import cv2
    import numpy as np

    def refuse(found: str, expected: str, field: str = name) -> None:
        problems.append(Problem(file, found, expected, number, field))

    if is_uri(reference):
        return refuse(f"'{reference}'", "a path relative to the manifest (remote URIs are not staged yet)")
    try:
        path = inside(root, reference)
    except OutsideRoot:
        return refuse(f"'{reference}'", "a path that stays inside the manifest's directory")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return refuse(f"'{reference}'", f"a file ending in one of {', '.join(IMAGE_SUFFIXES)}")
    if not path.is_file():
        return refuse(f"'{reference}'", "a file that exists")
    if sha256 is not None and (actual := sha256_of(path)) != sha256:
        return refuse(sha256, f"the sha256 of the file, {actual}", "sha256" if name == "source-ref" else f"{name[:-4]}-sha256")
    flag = cv2.IMREAD_COLOR if name == "source-ref" else cv2.IMREAD_UNCHANGED
    picture = cv2.imdecode(np.fromfile(path, dtype=np.uint8), flag) if path.stat().st_size else None
    return picture if picture is not None else refuse(f"'{reference}'", "an image that can be decoded")


def count_labels(rows: Iterable[Row]) -> Counter[str]:
    """How many objects of each category, and how many rows with a mask, lanes or tracks."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(box.category for box in row.boxes or ())
        counts.update(kind for kind in ("semantic", "lanes", "tracks") if row.has_label(kind))
    return counts
