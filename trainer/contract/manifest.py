"""One sample a row: the JSON Lines manifests that curation delivers.

The row follows SageMaker Ground Truth's habit (``source-ref``): a JSON object a line, paths relative to the
manifest. docs/data.md shows a complete row.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
    model_validator,
)

from trainer.contract.errors import MissingField, Problem, problems_of
from trainer.contract.files import digest_of

SPLITS = ("train", "val", "test")
"""The splits of a delivery; ``golden_<split>.manifest`` holds each one's rows."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

# WebDataset takes everything after the first dot of a tar member's name as its type: no dots in a key.
SampleId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Point = tuple[FiniteFloat, FiniteFloat]


def _utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("should be a time that has a UTC date") from None


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Box(_Row):
    """An object's box in pixels of the source image, COCO's ``[x, y, width, height]`` from the top left corner.

    ``ignore`` marks a box that neither counts as found nor as missed (COCO's ``iscrowd``, VOC's ``difficult``).
    """

    category: Text
    bbox: tuple[FiniteFloat, FiniteFloat, Annotated[FiniteFloat, Field(gt=0)], Annotated[FiniteFloat, Field(gt=0)]]
    ignore: bool = False


class Track(_Row):
    """An agent's path: ``points`` in metres, ``hz`` samples a second, the first ``observed`` of them are the past.

    ``at`` is where the agent stands in the row's image at its last observed point, in pixels.
    """

    track_id: Text
    category: Text = "agent"
    hz: Annotated[FiniteFloat, Field(gt=0)]
    observed: Annotated[int, Field(ge=1)]
    points: Annotated[tuple[Point, ...], Field(min_length=2)]
    at: Point | None = None


class Row(_Row):
    """One sample of a manifest: where its image is, when it was taken, what is in it, and who owns it.

    Labels that are absent (``None``) were not annotated; an empty list says that there is nothing to see. A row
    without an image has tracks alone, and the sha256 of :func:`tracks_sha256`.
    """

    sample_id: SampleId
    source_ref: Text | None = Field(default=None, alias="source-ref")
    sha256: Sha256
    captured_at: Annotated[AwareDatetime, AfterValidator(_utc)]
    captured_at_source: Literal["recorded", "assigned"] = "recorded"
    attributes: dict[Text, str | bool | int | FiniteFloat] = {}
    boxes: tuple[Box, ...] | None = None
    semantic_ref: Text | None = Field(default=None, alias="semantic-ref")
    semantic_sha256: Sha256 | None = Field(default=None, alias="semantic-sha256")
    lanes: tuple[Annotated[tuple[Point, ...], Field(min_length=2)], ...] | None = None
    tracks: tuple[Track, ...] | None = None
    licence: Text
    origin: Text

    @model_validator(mode="after")
    def _something_to_see(self) -> "Row":
        if self.source_ref is None and (not self.tracks or self.boxes or self.semantic_ref or self.lanes):
            raise MissingField("source-ref", "this field to be present: only a row of tracks alone has no image")
        return self

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON values, without the fields that were not given."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)

    def has_label(self, label: str) -> bool:
        return getattr(self, LABEL_FIELDS[label]) is not None


def tracks_sha256(tracks: Sequence[Track]) -> str:
    """What stands for the image's digest in a row without an image: that of its tracks as canonical JSON."""
    return digest_of([track.model_dump(mode="json") for track in tracks])


LABEL_FIELDS = {"boxes": "boxes", "semantic": "semantic_ref", "lanes": "lanes", "tracks": "tracks"}
"""The kinds of label, and the attribute of :class:`Row` that holds each."""

URI = re.compile(r"^[a-z][a-z0-9+.-]*://")


def is_uri(reference: str) -> bool:
    return bool(URI.match(reference))


def read_lines(
    path: Path, problems: list[Problem], seen: Callable[[bytes], object] = lambda content: None
) -> Iterator[tuple[int, bytes, Row]]:
    """Number, bytes and row of each good line of ``path``; what is wrong with the others goes into ``problems``.

    ``seen`` is called with each line, the bad and the empty ones too: a digest of exactly what was read.
    """
    validate = Row.__pydantic_validator__.validate_json  # without the model's own layer: a tenth of the time
    with open(path, "rb") as lines:
        before = os.fstat(lines.fileno())
        for number, content in enumerate(lines, start=1):
            seen(content)
            if content.isspace():
                continue
            try:
                yield number, content, validate(content)
            except ValidationError as error:
                problems.extend(_line_problems(error, content, str(path), number))
        problems.extend(_growth(path, before, os.fstat(lines.fileno())))


def read_manifest(path: Path, problems: list[Problem]) -> Iterator[tuple[int, Row]]:
    """Line number and row of each good line of ``path``; what is wrong with the others goes into ``problems``."""
    for number, _, row in read_lines(path, problems):
        yield number, row


def count_lines(path: Path) -> int:
    """How many rows ``path`` has, good or bad."""
    with open(path, "rb") as lines:
        return sum(not line.isspace() for line in lines)


def _growth(path: Path, before: os.stat_result, after: os.stat_result) -> Iterator[Problem]:
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        found = f"{after.st_size} bytes at the end of reading, {before.st_size} at its beginning"
        yield Problem(str(path), found, "a manifest that nobody writes to: deliver it once it is complete")


def _line_problems(error: ValidationError, line: bytes, file: str, number: int) -> list[Problem]:
    if error.errors(include_url=False)[0]["type"] == "json_invalid":
        message = str(error.errors(include_url=False)[0]["msg"])
        found = f"{message}: {line.decode(errors='replace').strip()!r}"
        return [Problem(file, found, "one JSON object on each line", number)]
    return problems_of(error, file, number)
