"""Looks for secrets wherever they could hide: files and what is packed into them, databases, texts."""

import base64
import gzip
import re
import sqlite3
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

EMBEDDED = re.compile(rb"base64,([A-Za-z0-9+/]{16,})")
SQLITE, ZIP, GZIP, PARQUET = b"SQLite format 3\0", b"PK\3\4", b"\x1f\x8b", b"PAR1"


def leaks(secrets: Mapping[str, str], contents: Iterable[tuple[str, bytes]]) -> list[str]:
    """``<name of a secret> in <place>`` for each that is in the contents of a place."""
    found = set()
    for place, content in contents:
        for part in (content, *_embedded(content)):
            found |= {f"{name} in {place}" for name, value in secrets.items() if value.encode() in part}
    return sorted(found)


def below(root: Path) -> Iterator[tuple[str, bytes]]:
    """All that is in the files below ``root``: as they are and unpacked."""
    for path in sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink()):
        place, content = path.relative_to(root.parent).as_posix(), path.read_bytes()
        yield place, content
        yield from ((place, part) for part in _unpacked(path, content))


def texts(place: str, given: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    return ((f"{place} {number}", text.encode()) for number, text in enumerate(given))


def _unpacked(path: Path, content: bytes) -> Iterator[bytes]:
    if content.startswith(SQLITE):
        yield from _cells(path)
    elif content.startswith(ZIP):
        with zipfile.ZipFile(path) as archive:
            yield from map(archive.read, archive.namelist())
    elif content.startswith(GZIP):
        yield gzip.decompress(content)
    elif content.startswith(PARQUET):
        import pyarrow.parquet

        yield str(pyarrow.parquet.read_table(path).to_pydict()).encode()


def _cells(path: Path) -> Iterator[bytes]:
    """What a database holds, what is only in its log yet too; Dagster compresses some of it."""
    connection = sqlite3.connect(path)
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        for cell in (cell for row in connection.execute(f'SELECT * FROM "{table}"') for cell in row):  # noqa: S608
            if isinstance(cell, str):
                yield cell.encode()
            elif isinstance(cell, bytes):
                yield _inflated(cell)
    connection.close()


def _inflated(content: bytes) -> bytes:
    try:
        return zlib.decompress(content)
    except zlib.error:
        return content


def _embedded(content: bytes) -> Iterator[bytes]:
    """Pictures and other files inside a text."""
    for match in EMBEDDED.finditer(content):
        yield base64.b64decode(match[1][: len(match[1]) // 4 * 4])
