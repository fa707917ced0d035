"""Rows become WebDataset tar shards with an index; samples are read back by offset.

Layout of a shard: the members of one sample stand together, named ``<sample_id>.<extension>``, as the
``webdataset`` library groups them: the image as delivered, ``semantic.png``, and ``json`` with the row.
A shard's name is the digest of its rows, so staging what is staged already writes nothing.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import atomic_open, inside, sha256_of, write_text
from trainer.contract.manifest import Row
from trainer.contract.shard_index import Member, ShardIndex, ShardSample, read_index, shard_key

SAMPLES_PER_SHARD = 256
BLOCK = 512


class DamagedShard(OSError):
    """A shard is not what its index says; names both, and the sample."""


@dataclass(frozen=True)
class StagedShard:
    """A shard in the store, and whether this call wrote it or found it."""

    index: ShardIndex
    path: Path
    reused: bool


def stage(
    rows: Sequence[Row],
    root: Path,
    out: Path,
    *,
    samples_per_shard: int = SAMPLES_PER_SHARD,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[StagedShard]:
    """Write ``rows`` (their files are below ``root``) as shards into ``out``; shards that are there are kept.

    Raises:
        ContractError: a file is not what its row says.
    """
    staged = []
    for start in range(0, len(rows), samples_per_shard):
        chunk = list(rows[start : start + samples_per_shard])
        staged.append(_stage_one(chunk, root, out))
        progress(start + len(chunk), len(rows))
    return staged


def _stage_one(rows: list[Row], root: Path, out: Path) -> StagedShard:
    key = shard_key(rows, {row.sample_id: _mask_digest(row, root) for row in rows if row.semantic_ref})
    path = out / f"{key}.json"
    if path.exists():
        index = read_index(path)
        if (out / index.tar_name).is_file() and (out / index.tar_name).stat().st_size == index.bytes:
            return StagedShard(index, path, reused=True)
        path.unlink(missing_ok=True)  # two stagings of one shard may both find it incomplete
    index = _write_tar(key, rows, root, out)
    # The index goes last: a shard without one does not exist.
    write_text(path, index.model_dump_json(by_alias=True, exclude_none=True))
    return StagedShard(index, path, reused=False)


def _mask_digest(row: Row, root: Path) -> str:
    return row.semantic_sha256 or sha256_of(inside(root, str(row.semantic_ref)))


class _HashingStream(io.RawIOBase):
    """Counts and hashes what is written, so that the shard's sha256 costs no second reading."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream, self.hash, self.position = stream, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def write(self, data: Any) -> int:
        self.hash.update(data)
        self.position += len(data)
        return self.stream.write(data)


def _write_tar(key: str, rows: list[Row], root: Path, out: Path) -> ShardIndex:
    samples = []
    with atomic_open(out / f"{key}.tar") as stream:
        counted = _HashingStream(stream)
        with tarfile.open(fileobj=counted, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for row in rows:
                members = {name: _add(tar, f"{row.sample_id}.{name}", data) for name, data in _members(row, root)}
                samples.append(ShardSample(row=row, members=members))
    return ShardIndex(key=key, sha256=counted.hash.hexdigest(), bytes=counted.position, samples=tuple(samples))


def _members(row: Row, root: Path) -> Iterator[tuple[str, bytes]]:
    image = inside(root, row.source_ref)
    yield image.suffix[1:].lower(), _verified(image, row.sha256, row)
    if row.semantic_ref is not None:
        mask = inside(root, row.semantic_ref)
        yield "semantic.png", _verified(mask, row.semantic_sha256, row)
    yield "json", json.dumps(row.to_json(), ensure_ascii=False, separators=(",", ":")).encode()


def _verified(path: Path, expected: str | None, row: Row) -> bytes:
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if expected is not None and found != expected:
        problem = Problem(str(path), found, f"sha256 {expected}, as the row of '{row.sample_id}' says")
        raise ContractError("a file changed since its manifest was written", [problem])
    return content


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> Member:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    tar.addfile(entry, io.BytesIO(data))
    padded = -(-len(data) // BLOCK) * BLOCK
    return Member(offset=tar.offset - padded, length=len(data))


class ShardReader:
    """Random access to the samples of several shards, in the shards' order.

    Holds the indexes; opens each tar on first use, once in each process (file descriptors do not travel).
    """

    def __init__(self, index_paths: Iterable[Path]) -> None:
        self.paths: list[Path] = []
        self.samples: list[tuple[int, ShardSample]] = []
        for number, path in enumerate(index_paths):
            index = read_index(path)
            self.paths.append(path.with_suffix(".tar"))
            self.samples += [(number, sample) for sample in index.samples]
        self._descriptors: dict[tuple[int, int], int] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def row(self, index: int) -> Row:
        return self.samples[index][1].row

    def members(self, index: int) -> list[str]:
        return list(self.samples[index][1].members)

    def read(self, index: int, name: str) -> bytes:
        """The bytes of member ``name`` (``jpg``, ``semantic.png``, ``json``) of sample ``index``.

        Raises:
            DamagedShard: the shard is missing or shorter than its index says.
        """
        shard, sample = self.samples[index]
        member = sample.members[name]
        try:
            data = os.pread(self._descriptor(shard), member.length, member.offset)
        except FileNotFoundError:
            raise DamagedShard(f"{self.place(index, name)}: the shard is missing") from None
        if len(data) != member.length:
            found = f"found {len(data)} of {member.length} bytes at offset {member.offset}"
            raise DamagedShard(f"{self.place(index, name)}: {found}, the shard is cut off")
        return data

    def place(self, index: int, name: str) -> str:
        """Where member ``name`` of a sample lies, for people."""
        shard, sample = self.samples[index]
        return f"{self.paths[shard]}: sample '{sample.row.sample_id}', member '{name}'"

    def _descriptor(self, shard: int) -> int:
        key = (os.getpid(), shard)
        if key not in self._descriptors:
            self._descriptors[key] = os.open(self.paths[shard], os.O_RDONLY)
        return self._descriptors[key]
