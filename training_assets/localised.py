"""A delivery whose rows name files in S3, as one that holds them itself: what is checked and pinned is in one place.

``s3://bucket/key`` becomes ``remote/bucket/key``. Everything else of a row stays as it was, its sha256 above all: the
frame is still the one that curation meant, or it is refused.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.contract.delivery import FILES
from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import atomic_open
from trainer.contract.slices import SLICES_FILE
from training_assets.stores.inbox.base import PARALLEL, Progress, silent
from training_assets.stores.objects import S3Objects
from training_assets.stores.objects.base import checked_name

S3 = "s3://"
REMOTE = "remote"
DIGESTS = {"source-ref": "sha256", "semantic-ref": "semantic-sha256"}
"""The fields that name a file, and where each one's sha256 stands."""
MANIFESTS = tuple(name for name in FILES if name != SLICES_FILE)


@dataclass(frozen=True)
class _Wanted:
    """An object that a row names, and where the row stands; of several rows the first."""

    uri: str
    sha256: str | None
    file: str
    line: int
    field: str

    @property
    def bucket(self) -> str:
        return self.uri.removeprefix(S3).partition("/")[0]

    @property
    def key(self) -> str:
        return self.uri.removeprefix(S3).partition("/")[2]


def localised(delivery: Path, into: Path, progress: Progress = silent) -> Path:
    """``delivery`` itself where no row names a file in S3; else a copy in ``into``, which goes on after a kill.

    Raises:
        ContractError: names every object that is missing or is not what its row says.
        StoreUnreachable: S3 cannot be reached.
    """
    wanted = {one.uri: one for name in reversed(MANIFESTS) for one in reversed(list(_wanted(delivery / name)))}
    if not wanted:
        return delivery
    into.mkdir(parents=True, exist_ok=True)
    _link_files(delivery, into)
    problems: list[Problem] = []
    buckets = {one.bucket: S3Objects(one.bucket) for one in wanted.values()}
    with ThreadPoolExecutor(PARALLEL) as pool:
        fetched = pool.map(lambda one: _fetch(one, buckets[one.bucket], into), wanted.values())
        for done, found in enumerate(fetched, start=1):
            problems += found
            progress(done, len(wanted))
    if problems:
        raise ContractError(f"{delivery} names files in S3 that cannot be used", problems, "Nothing was delivered.")
    for lock in into.rglob(".lock"):
        lock.unlink()
    for name in MANIFESTS:
        _rewrite(delivery / name, into / name)
    return into


def _rows(manifest: Path) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
    """Number, bytes and content of each line; a bad one is empty here, and named when the delivery is checked."""
    if not manifest.is_file():
        return
    with open(manifest, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield number, line, row if isinstance(row, dict) else {}


def _wanted(manifest: Path) -> Iterator[_Wanted]:
    for number, _, row in _rows(manifest):
        for field, digest in DIGESTS.items():
            if str(row.get(field)).startswith(S3):
                yield _Wanted(row[field], row.get(digest), str(manifest), number, field)


def _link_files(delivery: Path, into: Path) -> None:
    """All but the manifests, without a second copy where the file system allows."""
    for path in delivery.rglob("*"):
        target = into / path.relative_to(delivery)
        if path.is_file() and path.name not in MANIFESTS and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path.resolve(), target)
            except OSError:
                shutil.copyfile(path, target)


def _fetch(wanted: _Wanted, store: S3Objects, into: Path) -> list[Problem]:
    try:
        target = into / REMOTE / checked_name(f"{wanted.bucket}/{wanted.key}")
        store.download(wanted.key, target, wanted.sha256)
    except FileNotFoundError:
        return [Problem(wanted.file, f"'{wanted.uri}'", "an object that is there", wanted.line, wanted.field)]
    except ContractError as error:
        return [
            Problem(wanted.file, f"'{wanted.uri}': {one.found}", one.expected, wanted.line, wanted.field)
            for one in error.problems
        ]
    return []


def _rewrite(manifest: Path, target: Path) -> None:
    with atomic_open(target) as sink:
        for _, line, row in _rows(manifest):
            sink.write(_local(row) if any(str(row.get(field)).startswith(S3) for field in DIGESTS) else line)


def _local(row: Mapping[str, Any]) -> bytes:
    moved = {
        field: f"{REMOTE}/{row[field].removeprefix(S3)}" for field in DIGESTS if str(row.get(field)).startswith(S3)
    }
    return json.dumps({**row, **moved}, ensure_ascii=False).encode() + b"\n"
