"""The rows of a dataset version, as they were checked: what is staged from, whatever becomes of the delivery.

Below the version's directory::

    windows/<window>.manifest      the rows of train, one file a window
    val.manifest  test.manifest

Rows are in the order of their capture time and id, and name the sha256 of their masks: a file's digest changes when
its rows or their pictures do, and not with the order that a delivery has.
"""

import hashlib
import json
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

NO_ROWS = hashlib.sha256().hexdigest()
"""The digest of a window that has no rows, and so no file."""


def window_manifest(directory: Path, window: str) -> Path:
    """The rows of one window of train; there is no file when it has none."""
    return directory / WINDOWS / f"{window}{SUFFIX}"


def split_manifests(directory: Path, split: str) -> list[Path]:
    """The files that hold a whole split, oldest rows first."""
    return sorted((directory / WINDOWS).glob(f"*{SUFFIX}")) if split == "train" else [directory / f"{split}{SUFFIX}"]


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
        self._held: defaultdict[str, list[bytes]] = defaultdict(list)
        self._bytes = 0

    def add(self, sample: Sample) -> None:
        row = sample.row
        # Before each line, its time and id: sorting lines sorts by them. Neither of them holds a tab.
        key = f"{row.captured_at.isoformat()}\t{row.sample_id}\t".encode()
        content = _content(sample)
        self._held[self._file_of(sample)] += (key, content)
        self._bytes += len(content)
        if self._bytes > HELD_BYTES:
            self._spill()

    def finish(self, directory: Path) -> dict[str, WindowRows]:
        """Write the files below ``directory``; what each window has, the oldest first.

        A version that is written again gets the same files, or those of windows of another length.
        """
        self._spill()
        written = {
            path.relative_to(self._scratch): _write_sorted(path, directory / path.relative_to(self._scratch))
            for path in sorted(self._scratch.rglob(f"*{SUFFIX}"))
        }
        for path in (directory / WINDOWS).glob(f"*{SUFFIX}"):
            if path.relative_to(directory) not in written:
                path.unlink()
        return {path.stem: rows for path, rows in written.items() if path.parent.name == WINDOWS}

    def _file_of(self, sample: Sample) -> str:
        if sample.split != "train":
            return f"{sample.split}{SUFFIX}"
        day = sample.row.captured_at.date()
        if day not in self._windows:
            self._windows[day] = f"{WINDOWS}/{window_of(sample.row.captured_at, self._cadence).name}{SUFFIX}"
        return self._windows[day]

    def _spill(self) -> None:
        for name, lines in self._held.items():
            path = self._scratch / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab") as stream:
                stream.writelines(lines)
        self._held.clear()
        self._bytes = 0


def _content(sample: Sample) -> bytes:
    """The row's line; with the digest of its mask, where only the mask's own bytes told it."""
    facts, row, content = sample.facts, sample.row, sample.content
    if facts is not None and facts.semantic_sha256 is not None and row.semantic_sha256 is None:
        named = row.model_copy(update={"semantic_sha256": facts.semantic_sha256})
        content = json.dumps(named.to_json(), ensure_ascii=False, allow_nan=False).encode()
    return content if content.startswith(b"{") and content.endswith(b"}\n") else content.strip() + b"\n"


def _write_sorted(scratch: Path, target: Path) -> WindowRows:
    with open(scratch, "rb") as lines:
        ordered = [line.split(b"\t", 2)[2] for line in sorted(lines)]
    content = b"".join(ordered)
    write_bytes(target, content)
    return WindowRows(len(ordered), hashlib.sha256(content).hexdigest())
