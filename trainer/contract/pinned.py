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
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from trainer.contract.delivery import Sample
from trainer.contract.files import move_file, write_bytes
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

Key = tuple[float, str, int]
"""The same with the length of the line."""


class WindowRows(NamedTuple):
    """How many rows a window has, and the digest of its file."""

    rows: int
    sha256: str


class RowWriter:
    """Sorts samples into the files of a version by way of ``scratch``; one file at a time is held in memory.

    A file whose rows come in their order is written once; of another one the rows are put in order at the end.
    ``scratch`` is empty, and on the version's file system.
    """

    def __init__(self, scratch: Path, cadence: Cadence) -> None:
        self._scratch = scratch
        self._cadence: Cadence = cadence
        self._windows: dict[date, str] = {}
        self._held: defaultdict[str, list[Held]] = defaultdict(list)
        self._bytes = 0
        self._parts: dict[str, _Part] = {}

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
        written = {Path(name): part.place(directory / name) for name, part in sorted(self._parts.items())}
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
        for name, rows in self._held.items():
            self._parts.setdefault(name, _Part(self._scratch / name)).append(rows)
        self._held.clear()
        self._bytes = 0


class _Part:
    """A file in the making at ``path``, with the keys of its rows beside it: to sort it, no row is parsed again."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._keys = path, path.with_suffix(".keys")
        self._digest, self._rows = hashlib.sha256(), 0
        self._last: Key | None = None
        self._ordered = True

    def append(self, rows: list[Held]) -> None:
        rows.sort()
        keys: list[Key] = [(moment, name, len(line)) for moment, name, line in rows]
        content = b"".join([line for _, _, line in rows])
        with open(self._path, "ab") as file:
            file.write(content)
        with open(self._keys, "ab") as file:
            marshal.dump(keys, file, PLAIN_MARSHAL)
        self._ordered = self._ordered and (self._last is None or self._last < keys[0])
        self._last = keys[-1]
        self._rows += len(rows)
        self._digest.update(content)

    def place(self, target: Path) -> WindowRows:
        if self._ordered:
            move_file(self._path, target)
            return WindowRows(self._rows, self._digest.hexdigest())
        content = self._sorted()
        write_bytes(target, content)
        return WindowRows(self._rows, hashlib.sha256(content).hexdigest())

    def _sorted(self) -> bytes:
        content, keys = memoryview(self._path.read_bytes()), list[Key]()
        with open(self._keys, "rb") as file:
            while len(keys) < self._rows:
                keys += marshal.load(file)  # noqa: S302 - our own
        ends = list(accumulate(length for _, _, length in keys))
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return b"".join([content[ends[place] - keys[place][2] : ends[place]] for place in order])


def _content(sample: Sample) -> bytes:
    """The row's line; with the digest of its mask, where only the mask's own bytes told it."""
    facts, row, content = sample.facts, sample.row, sample.content
    if facts is not None and facts.semantic_sha256 is not None and row.semantic_sha256 is None:
        named = row.model_copy(update={"semantic_sha256": facts.semantic_sha256})
        content = json.dumps(named.to_json(), ensure_ascii=False, allow_nan=False).encode()
    return content if content.startswith(b"{") and content.endswith(b"}\n") else content.strip() + b"\n"
