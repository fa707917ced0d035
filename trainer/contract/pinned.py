"""The rows of a dataset version, as they were checked: what is staged from, whatever becomes of the delivery.

Below the version's directory::

    windows/<window>.manifest      the rows of train, one file a window
    val.manifest  test.manifest

Rows are in the order of their capture time and id, and name the sha256 of their masks: a file's digest changes when
its rows or their pictures do, and not with the order that a delivery has.
"""

import hashlib
import json
import marshal
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import NamedTuple

from trainer.contract.delivery import Sample
from trainer.contract.files import write_bytes
from trainer.contract.windows import Cadence, window_of

WINDOWS = "windows"
SUFFIX = ".manifest"
HELD_BYTES = 64 << 20
"""Rows that are kept in memory before they go to the scratch files."""

PLAIN_MARSHAL = 2
"""The last format of marshal that does not look for objects that it has written before."""

NO_ROWS = hashlib.sha256().hexdigest()
"""The digest of a window that has no rows, and so no file."""


def window_manifest(directory: Path, window: str) -> Path:
    """The rows of one window of train; there is no file when it has none."""
    return directory / WINDOWS / f"{window}{SUFFIX}"


def split_manifests(directory: Path, split: str) -> list[Path]:
    """The files that hold a whole split, oldest rows first."""
    return sorted((directory / WINDOWS).glob(f"*{SUFFIX}")) if split == "train" else [directory / f"{split}{SUFFIX}"]


Held = tuple[float, str, bytes]
"""When it was captured, its id, its line: in the order in which rows are sorted."""


class WindowRows(NamedTuple):
    """How many rows a window has, and the digest of its file."""

    rows: int
    sha256: str


class RowWriter:
    """Sorts samples into the files of a version by way of ``scratch``; one file at a time is held in memory."""

    def __init__(self, scratch: Path, cadence: Cadence) -> None:
        self._scratch = scratch
        self._cadence: Cadence = cadence
        self._windows: dict[date, str] = {}
        self._held: defaultdict[str, list[Held]] = defaultdict(list)
        self._bytes = 0
        self._spills = 0

    def add(self, sample: Sample) -> None:
        row, content = sample.row, _content(sample)
        self._held[self._file_of(sample)].append((row.captured_at.timestamp(), row.sample_id, content))
        self._bytes += len(content)
        if self._bytes > HELD_BYTES:
            self._spill()

    def finish(self, directory: Path) -> dict[str, WindowRows]:
        """Write the files below ``directory``; what each window has, the oldest first.

        A version that is written again gets the same files, or those of windows of another length.
        """
        self._spill()
        parts: defaultdict[Path, list[Path]] = defaultdict(list)
        for path in self._scratch.rglob(f"*{SUFFIX}"):
            parts[Path(*path.relative_to(self._scratch).parts[1:])].append(path)
        written = {name: _write_sorted(paths, directory / name) for name, paths in sorted(parts.items())}
        for path in (directory / WINDOWS).glob(f"*{SUFFIX}"):
            if path.relative_to(directory) not in written:
                path.unlink()
        return {name.stem: rows for name, rows in written.items() if name.parent.name == WINDOWS}

    def _file_of(self, sample: Sample) -> str:
        if sample.split != "train":
            return f"{sample.split}{SUFFIX}"
        day = sample.row.captured_at.date()
        if day not in self._windows:
            self._windows[day] = f"{WINDOWS}/{window_of(sample.row.captured_at, self._cadence).name}{SUFFIX}"
        return self._windows[day]

    def _spill(self) -> None:
        """Put what is held into files of a directory of their own, marshalled: text would have to be parsed again."""
        for name, rows in self._held.items():
            path = self._scratch / f"{self._spills:06d}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(marshal.dumps(rows, PLAIN_MARSHAL))
        self._held.clear()
        self._bytes = 0
        self._spills += 1


def _content(sample: Sample) -> bytes:
    """The row's line; with the digest of its mask, where only the mask's own bytes told it."""
    facts, row, content = sample.facts, sample.row, sample.content
    if facts is not None and facts.semantic_sha256 is not None and row.semantic_sha256 is None:
        named = row.model_copy(update={"semantic_sha256": facts.semantic_sha256})
        content = json.dumps(named.to_json(), ensure_ascii=False, allow_nan=False).encode()
    return content if content.startswith(b"{") and content.endswith(b"}\n") else content.strip() + b"\n"


def _write_sorted(parts: list[Path], target: Path) -> WindowRows:
    rows = [row for path in parts for row in marshal.loads(path.read_bytes())]  # noqa: S302 - our own
    rows.sort()
    content = b"".join([line for _, _, line in rows])
    write_bytes(target, content)
    return WindowRows(len(rows), hashlib.sha256(content).hexdigest())
