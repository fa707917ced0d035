"""An inbox in a directory, of this machine or mounted."""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from trainer.contract.delivery import FILES
from trainer.contract.files import atomic_open, sha256_of, write_bytes
from training_assets.stores.inbox.base import (
    MANIFEST,
    SLICES,
    SUCCESS,
    SUMS,
    DeliveryFound,
    Inbox,
    Progress,
    Stat,
    silent,
)


class LocalInbox(Inbox):
    """The inbox in the directory ``root``; what arrived when is the files' ctime, which no copying tool sets."""

    settle = 2.0

    def __init__(self, root: Path) -> None:
        self.root, self.uri = root, str(root)

    def fetch(self, found: DeliveryFound, into: Path, progress: Progress = silent) -> Path:
        return (self.root / found.name).resolve()

    def slice_manifest(self, name: str, into: Path) -> Path:
        path = self.root / SLICES / f"{name}{MANIFEST}"
        if not path.is_file():
            raise FileNotFoundError(path)
        return path

    def fetch_slice(self, name: str, references: Iterable[str], into: Path) -> Path:
        return self.slice_manifest(name, into).resolve()

    def lacking(self, references: Iterable[str]) -> set[str]:
        top = os.path.join(self.root, SLICES)  # noqa: PTH118 - tens of thousands of them in a tick: strings alone
        return {reference for reference in references if not _is_file_below(top, reference)}

    def slice_version(self, name: str) -> str | None:
        try:
            return _version((self.root / SLICES / f"{name}{MANIFEST}").stat())
        except FileNotFoundError:
            return None

    def _deliveries(self) -> Iterator[tuple[str, dict[str, Stat]]]:
        for entry in _entries(self.root):
            if entry.is_dir() and entry.name != SLICES and not entry.name.startswith("."):
                yield entry.name, self._stats(entry.name)

    def _stats(self, name: str) -> dict[str, Stat]:
        stats: dict[str, Stat] = {}
        for file in (*FILES, SUCCESS, SUMS):
            try:
                found = (self.root / name / file).stat()
                # A directory that is moved here brings old files along: it arrives itself.
                arrived = max(found.st_ctime_ns, (self.root / name).stat().st_ctime_ns)
                stats[file] = Stat(arrived, found.st_mtime_ns, _version(found))
            except OSError:
                continue
        return stats

    def _slices(self) -> Iterator[tuple[str, int]]:
        for entry in _entries(self.root / SLICES):
            if entry.name.endswith(MANIFEST) and not entry.name.startswith("."):
                with contextlib.suppress(OSError):  # gone meanwhile, or a link to nothing
                    yield entry.name.removesuffix(MANIFEST), entry.stat().st_ctime_ns

    def _place(self, source: Path, name: str) -> None:
        target = self.root / name
        if target.is_file() and target.stat().st_size == source.stat().st_size:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.name not in FILES:
            try:
                target.unlink(missing_ok=True)
                os.link(source, target)
                return
            except OSError:  # another file system, or one without links
                pass
        with atomic_open(target) as sink, open(source, "rb") as stream:
            shutil.copyfileobj(stream, sink, 1 << 20)

    def _sha256(self, name: str) -> str:
        return sha256_of(self.root / name)

    def _read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def _write(self, name: str, content: bytes) -> None:
        write_bytes(self.root / name, content)

    def _move(self, name: str, target: str) -> None:
        if (self.root / name).exists():
            (self.root / name).rename(self.root / target)

    def _exists(self, name: str) -> bool:
        return (self.root / name).exists()


def _is_file_below(top: str, reference: str) -> bool:
    """By its words alone: a link that leads out is found when the file is read."""
    path = os.path.normpath(reference)
    outside = os.path.isabs(path) or path.split(os.sep, 1)[0] == os.pardir  # noqa: PTH117
    return not outside and os.path.isfile(os.path.join(top, path))  # noqa: PTH113, PTH118


def _entries(directory: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _version(found: os.stat_result) -> str:
    return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}"
