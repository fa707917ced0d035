"""What readers of images make of a source: its pictures, each with what is drawn on it, and what is wrong."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from trainer.contract.errors import Problem
from trainer.contract.files import OutsideRoot, inside
from trainer.contract.manifest import Box, Point, Track
from trainer.data.readers.category_map import BBox, CategoryMap

NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_-]")

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels, the second point outside the box."""


@dataclass(frozen=True)
class Picture:
    """One sample of a source. ``group`` names those that must stay in one split; None: not stated, not annotated."""

    sample_id: str
    image: Path
    sha256: str
    group: str
    split: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    captured_at: datetime | None = None
    licence: str | None = None
    boxes: tuple[Box, ...] | None = None
    lanes: tuple[tuple[Point, ...], ...] | None = None
    tracks: tuple[Track, ...] | None = None


@dataclass
class Source:
    """All good pictures, what is wrong with the others, and what a user should know."""

    categories: CategoryMap = field(default_factory=CategoryMap)
    pictures: list[Picture] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def sample_id_of(name: str) -> str:
    """``name`` (a path without its suffix) with ``-`` for what a sample_id cannot have."""
    return NOT_IN_AN_ID.sub("-", name)


def found_image(roots: Iterable[Path], reference: str) -> Path | None:
    """The file ``reference`` below the first of ``roots`` that has it."""
    for root in roots:
        try:
            path = inside(root, reference)
        except OutsideRoot:
            continue
        if path.is_file():
            return path
    return None


def clipped(corners: Corners, size: tuple[int, int]) -> BBox | None:
    """The part of a box that is within an image of ``size`` (width, height); None where it has no area."""
    left, top = max(0.0, corners[0]), max(0.0, corners[1])
    width, height = min(corners[2], size[0]) - left, min(corners[3], size[1]) - top
    return (left, top, width, height) if width > 0 and height > 0 else None
