"""Reading and writing so that a killed process leaves either the old file or the new one."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

CHUNK = 1 << 20


@contextlib.contextmanager
def atomic_open(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary sibling of ``path`` for writing; it takes the name ``path`` only once all is on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, mode) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def move_file(source: Path, target: Path) -> None:
    """Give the finished file ``source`` the name ``target``, on the same file system; all of it is on disk before."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(source, "rb") as stream:
        os.fsync(stream.fileno())
    source.replace(target)
    sync_directory(target.parent)


def write_bytes(path: Path, content: bytes) -> None:
    with atomic_open(path) as stream:
        stream.write(content)


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def sync_directory(path: Path) -> None:
    """Make a rename in ``path`` survive a power cut (fsync of the directory entry)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def digest_of(value: Any) -> str:
    """sha256 of the canonical JSON of ``value``: sorted keys, no spaces, no NaN."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


class OutsideRoot(ValueError):
    """A relative path that would leave the directory it is relative to."""


def inside(root: Path, reference: str) -> Path:
    """``root / reference``, refusing absolute paths, and ``..`` and links that lead out of ``root``.

    A path that comes back in (``../root/a``) is refused too: it is another one once ``root`` is copied elsewhere.

    Raises:
        OutsideRoot: the resolved path is not below ``root``, or cannot be a path.
    """
    resolved_root = root.resolve()
    if Path(reference).is_absolute() or Path(os.path.normpath(reference)).parts[:1] == (os.pardir,):
        raise OutsideRoot(reference)
    try:
        resolved = (resolved_root / reference).resolve()
        resolved.is_file()
    except (OSError, RuntimeError, ValueError):  # too long, links in a circle, a null byte
        raise OutsideRoot(reference) from None
    if not resolved.is_relative_to(resolved_root) or resolved == resolved_root:
        raise OutsideRoot(reference)
    return resolved_root / reference
