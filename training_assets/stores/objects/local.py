"""Objects as files of a directory, of this machine or mounted (a mount must know ``flock``).

Beside them::

    .objects/lock               held by whoever writes
    .objects/sha256/<name>      the digests that an object may have: one, and two while it is being replaced
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from trainer.contract.files import atomic_open, sha256_of, sync_directory, write_bytes, write_text
from training_assets.stores.exclusive import create_exclusively, locked
from training_assets.stores.objects.base import (
    Changed,
    CorruptObject,
    ObjectRead,
    ObjectStore,
    Stored,
    changed_file,
    checked_name,
)

OWN = ".objects"


class LocalObjects(ObjectStore):
    """The store in the directory ``root``. An object's version is the sha256 of its content."""

    def __init__(self, root: Path) -> None:
        self.root, self.uri = root, str(root)

    def read(self, name: str) -> ObjectRead:
        content, digest = self._content(name)
        if self._unexpected(name, digest):
            # It may have been replaced between its content and its digests: nobody writes while we look again.
            with self._writing():
                content, digest = self._content(name)
                self._verify(name, digest)
        return ObjectRead(content, digest)

    def create(self, name: str, content: bytes) -> str:
        path, digest = self.path(name), hashlib.sha256(content).hexdigest()
        with self._writing():
            if path.exists():
                raise FileExistsError(self.at(name))
            # The digest first: an object that is there has one.
            self._expect(name, [digest])
            create_exclusively(path, content)
        return digest

    def replace(self, name: str, content: bytes, version: str) -> str:
        path, digest = self.path(name), hashlib.sha256(content).hexdigest()
        with self._writing():
            if not path.is_file() or (before := sha256_of(path)) != version:
                raise Changed(self.at(name))
            self._expect(name, [before, digest])
            write_bytes(path, content)
            self._expect(name, [digest])
        return digest

    def stat(self, name: str) -> Stored | None:
        path = self.path(name)
        if not path.is_file():
            return None
        digest = sha256_of(path)
        return Stored(path.stat().st_size, digest, digest)

    def list(self, folder: str) -> list[str]:
        found = (path for path in self.path(folder).rglob("*") if path.is_file())
        names = (path.relative_to(self.root).as_posix() for path in found)
        return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))

    def delete(self, name: str) -> None:
        with self._writing():
            self.path(name).unlink(missing_ok=True)
            self._digests(name).unlink(missing_ok=True)

    def upload(self, path: Path, name: str) -> Stored:
        target, digest = self.path(name), sha256_of(path)
        with self._writing():
            before = self.stat(name)
            if before is not None and before.sha256 == digest:
                self._expect(name, [digest])
                return before
            # Always the same name: the next try takes the place of what a killed one left.
            temporary = target.with_name(f".{target.name}.upload")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, temporary)
            with open(temporary, "rb") as stream:
                os.fsync(stream.fileno())
            if sha256_of(temporary) != digest:
                temporary.unlink()
                raise changed_file(path)
            self._expect(name, [digest, *([before.version] if before else [])])
            temporary.replace(target)
            sync_directory(target.parent)
            self._expect(name, [digest])
        return Stored(target.stat().st_size, digest, digest)

    def download(self, name: str, target: Path, sha256: str | None = None) -> None:
        path = self.path(name)
        if not path.is_file():
            raise FileNotFoundError(self.at(name))
        if target.is_file() and sha256_of(target) == (sha256 or sha256_of(path)):
            return
        digest = hashlib.sha256()
        with atomic_open(target) as sink, open(path, "rb") as source:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
                sink.write(chunk)
            found = digest.hexdigest()
            if sha256 is not None and found != sha256:
                raise CorruptObject(self.at(name), found, sha256)
            self._verify(name, found)

    def path(self, name: str) -> Path:
        return self.root / checked_name(name)

    def _content(self, name: str) -> tuple[bytes, str]:
        try:
            content = self.path(name).read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(self.at(name)) from None
        return content, hashlib.sha256(content).hexdigest()

    def _digests(self, name: str) -> Path:
        return self.root / OWN / "sha256" / name

    def _expect(self, name: str, digests: Iterable[str]) -> None:
        write_text(self._digests(name), "\n".join(digests) + "\n")

    def _unexpected(self, name: str, digest: str) -> str:
        """What the object should be, if it is not ``digest``; empty if it is, or if nobody knows."""
        with contextlib.suppress(FileNotFoundError):
            expected = self._digests(name).read_text().split()
            return "" if digest in expected else " or ".join(expected)
        return ""

    def _verify(self, name: str, digest: str) -> None:
        if expected := self._unexpected(name, digest):
            raise CorruptObject(self.at(name), digest, expected)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with locked(self.root / OWN / "lock"):
            yield
