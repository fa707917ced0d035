"""The pictures of a row: there, inside the delivery, unharmed, decodable, and fitting the labels drawn on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.contract.errors import Problem
from trainer.contract.files import OutsideRoot, inside
from trainer.contract.manifest import IMAGE_SUFFIXES, Row, is_uri, tracks_sha256
from trainer.contract.slices import SLICES_FILE, Slices

if TYPE_CHECKING:
    import numpy as np

REC_601_BGR = (0.114, 0.587, 0.299)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
BOX_SLACK = 1.0
"""Pixels that a box may reach beyond its image: annotation tools round outwards."""


@dataclass
class ImageFacts:
    """What decoding one sample told: image size, mean luma (0-255, Rec. 601), its spread, and the mask's digest."""

    width: int
    height: int
    luma_mean: float
    luma_std: float
    semantic_sha256: str | None = None


@dataclass(frozen=True)
class _Place:
    """Where a problem's row stands."""

    file: str
    line: int

    def problem(self, field: str, found: str, expected: str) -> Problem:
        return Problem(self.file, found, expected, self.line, field)


class _Refused(Exception):
    def __init__(self, field: str, found: str, expected: str) -> None:
        super().__init__(found)
        self.field, self.found, self.expected = field, found, expected


def check_sample(root: Path, file: str, line: int, row: Row, slices: Slices) -> tuple[ImageFacts | None, list[Problem]]:
    """Read and decode one row's image and mask; what is wrong with them and with the labels drawn on them."""
    place, problems = _Place(file, line), list[Problem]()
    facts = None
    if row.source_ref is None:
        return None, list(_track_problems(row, place))
    try:
        image = _decoded(_content(root, row.source_ref, row.sha256, "source-ref", "sha256"), "source-ref", colour=True)
        facts = _facts(image)
        problems += _box_problems(row, facts, place)
        if row.semantic_ref is not None:
            content = _content(root, row.semantic_ref, row.semantic_sha256, "semantic-ref", "semantic-sha256")
            facts.semantic_sha256 = hashlib.sha256(content).hexdigest()
            mask = _decoded(content, "semantic-ref", colour=False)
            if not is_label_png(content):
                found = f"'{row.semantic_ref}', decoded to {mask.shape}, {mask.dtype}"
                raise _Refused("semantic-ref", found, LABEL_PNG)
            problems += _mask_problems(mask, facts, slices, place)
    except _Refused as refused:
        problems.append(place.problem(refused.field, refused.found, refused.expected))
    return facts, problems


def _track_problems(row: Row, place: _Place) -> Iterator[Problem]:
    actual = tracks_sha256(row.tracks or ())
    if row.sha256 != actual:
        yield place.problem("sha256", row.sha256, f"{actual}, the sha256 of the row's tracks")


def _content(root: Path, reference: str, sha256: str | None, field: str, digest_field: str) -> bytes:
    if is_uri(reference):
        raise _Refused(field, f"'{reference}'", "a path relative to the manifest; `deliver` fetches what is in S3")
    try:
        path = inside(root, reference)
    except OutsideRoot:
        raise _Refused(field, f"'{reference}'", "a path that stays inside the manifest's directory") from None
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise _Refused(field, f"'{reference}'", f"a file ending in one of {', '.join(IMAGE_SUFFIXES)}")
    if not path.is_file():
        raise _Refused(field, f"'{reference}'", "a file that exists")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _Refused(field, f"'{reference}' ({error.strerror})", "a file that can be read") from None
    actual = hashlib.sha256(content).hexdigest()
    if sha256 is not None and actual != sha256:
        raise _Refused(digest_field, sha256, f"{actual}, the sha256 of '{reference}'")
    return content


def _decoded(content: bytes, field: str, colour: bool) -> np.ndarray:
    import cv2
    import numpy as np

    flag = cv2.IMREAD_COLOR if colour else cv2.IMREAD_UNCHANGED
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), flag) if content else None
    except cv2.error as error:  # more pixels than OpenCV takes, by its header
        raise _Refused(field, f"{len(content)} bytes ({error.err})", "an image that can be decoded") from None
    if picture is None:
        raise _Refused(field, f"{len(content)} bytes that are no image", "an image that can be decoded")
    if _is_cut_off(content):
        raise _Refused(field, f"a JPEG of {len(content)} bytes without its end", "a whole image")
    return picture


LABEL_PNG = "a PNG of one grey channel of 8 bits"


def is_label_png(content: bytes) -> bool:
    """Whether ``content`` begins as a PNG whose grey levels are the labels themselves.

    Decoders stretch 1, 2 and 4 bits to 0…255, turn a palette into colours, and JPEG invents values: by the picture
    alone a mask of classes 0 and 1 in one bit looks like one of classes 0 and 255. Header: PNG specification, 11.2.1.
    """
    return content[:8] == PNG_SIGNATURE and content[12:16] == b"IHDR" and content[24:26] == b"\x08\x00"


def _is_cut_off(content: bytes) -> bool:
    """Whether a JPEG ends before its end marker: OpenCV decodes such a file and fills the rest with grey."""
    is_jpeg = content.startswith(b"\xff\xd8")
    return is_jpeg and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda")


def _facts(image: np.ndarray) -> ImageFacts:
    luma = image @ REC_601_BGR
    return ImageFacts(image.shape[1], image.shape[0], float(luma.mean()), float(luma.std()))


def _box_problems(row: Row, facts: ImageFacts, place: _Place) -> Iterator[Problem]:
    for index, box in enumerate(row.boxes or ()):
        x, y, width, height = box.bbox
        if min(x, y) < -BOX_SLACK or x + width > facts.width + BOX_SLACK or y + height > facts.height + BOX_SLACK:
            expected = f"a box within the {facts.width}×{facts.height} image (to one pixel)"
            yield place.problem(f"boxes.{index}.bbox", str(list(box.bbox)), expected)


def _mask_problems(mask: np.ndarray, facts: ImageFacts, slices: Slices, place: _Place) -> Iterator[Problem]:
    import numpy as np

    if mask.shape != (facts.height, facts.width):
        found = f"a mask of {mask.shape[1]}×{mask.shape[0]}"
        yield place.problem("semantic-ref", found, f"the image's size, {facts.width}×{facts.height}")
    names = slices.labels.semantic
    if names is not None:
        unknown = sorted(set(np.unique(mask).tolist()) - set(range(len(names.classes))) - {names.ignore_id})
        if unknown:
            expected = f"0…{len(names.classes) - 1} or {names.ignore_id} (labels.semantic of {SLICES_FILE})"
            yield place.problem("semantic-ref", f"mask values {unknown}", expected)
