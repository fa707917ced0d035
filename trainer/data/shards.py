"""Rows become WebDataset tar shards with an index; samples are read back by offset.

Layout of a shard: the members of one sample stand together, named ``<sample_id>.<extension>``, as the
``webdataset`` library groups them: the image and ``semantic.png`` as delivered, ``semantic.rle`` with the same mask
in a form that is read several times as fast (``trainer/data/masks.py``), and ``json`` with the row.
A shard's name is the digest of its rows, so staging what is staged already writes nothing.
"""

import hashlib
import io
import json
import os
import tarfile
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import OutsideRoot, atomic_open, digest_of, inside, sha256_of, write_text
from trainer.contract.manifest import Row
from trainer.contract.shard_index import (
    Member,
    Selection,
    ShardHead,
    ShardIndex,
    ShardSample,
    index_text,
    read_head,
    read_index,
    read_members,
    shard_key,
)
from trainer.data.masks import decode_png, encode_runs

SAMPLES_PER_SHARD = 256
BLOCK = 512
OPEN_SHARDS = 128


class DamagedShard(OSError):
    """A shard is not what its index says; names both, and the sample."""


@dataclass(frozen=True)
class StagedShard:
    """A shard in the store, and whether this call wrote it or found it."""

    head: ShardHead
    path: Path
    reused: bool


@dataclass(frozen=True)
class Chunk:
    """The rows of one shard, its content address, and the shard itself where it is in the store already."""

    key: str
    rows: list[Row]
    staged: StagedShard | None


def stage(
    rows: Sequence[Row], root: Path, out: Path, *, samples_per_shard: int = SAMPLES_PER_SHARD
) -> list[StagedShard]:
    """Write ``rows`` (their files are below ``root``) as shards into ``out``; shards that are there are kept.

    Raises:
        ContractError: a file is not what its row says.
    """
    return [staged_chunk(chunk, root, out) for chunk in chunks(rows, root, out, samples_per_shard)]


def chunks(rows: Sequence[Row], root: Path, out: Path, samples_per_shard: int = SAMPLES_PER_SHARD) -> list[Chunk]:
    """``rows`` as they make shards. Below ``root`` it reads only masks whose digest their rows do not name."""
    found = []
    for start in range(0, len(rows), samples_per_shard):
        chosen = list(rows[start : start + samples_per_shard])
        key = shard_key(chosen, {row.sample_id: _mask_digest(row, root) for row in chosen if row.semantic_ref})
        found.append(Chunk(key, chosen, _staged(out / f"{key}.json")))
    return found


def staged_chunk(chunk: Chunk, root: Path, out: Path) -> StagedShard:
    if chunk.staged is not None:
        return chunk.staged
    path = out / f"{chunk.key}.json"
    path.unlink(missing_ok=True)  # two stagings of one shard may both find it incomplete
    index = _write_tar(chunk.key, chunk.rows, root, out)
    # The index goes last: a shard without one does not exist.
    write_text(path, index_text(index))
    return StagedShard(read_head(path), path, reused=False)


def _staged(path: Path) -> StagedShard | None:
    try:
        os.utime(path)  # before it is looked at: what was asked for lately is not cleared away
    except FileNotFoundError:
        return None
    head = read_head(path)
    tar = path.with_name(head.tar_name)
    whole = tar.is_file() and tar.stat().st_size == head.bytes
    return StagedShard(head, path, reused=True) if whole else None


def _mask_digest(row: Row, root: Path) -> str | None:
    """None when it is not there: no shard has that, and whoever writes one finds out."""
    try:
        return row.semantic_sha256 or sha256_of(inside(root, str(row.semantic_ref)))
    except (OSError, OutsideRoot):
        return None


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
    if row.source_ref is not None:
        image = inside(root, row.source_ref)
        yield image.suffix[1:].lower(), _verified(image, row.sha256, row)
    if row.semantic_ref is not None:
        mask = inside(root, row.semantic_ref)
        png = _verified(mask, row.semantic_sha256, row)
        yield "semantic.png", png
        if (decoded := decode_png(png)) is not None and (runs := encode_runs(decoded)) is not None:
            yield "semantic.rle", runs
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
    """Random access to the samples of several shards, in the shards' order; with a ``selection`` to those alone.

    Opening reads the head of each index alone; where the members of a shard lie is read when one of them is asked
    for, rows only when asked for. Each process opens tars of its own, at most ``OPEN_SHARDS`` at a time.
    """

    def __init__(self, index_paths: Iterable[Path], selection: Selection | None = None) -> None:
        self.paths = list(index_paths)
        heads = [read_head(path) for path in self.paths]
        self.keys = [head.key for head in heads]
        self.label_counts = sum((Counter(head.labels) for head in heads), Counter())
        self._ends = np.cumsum([head.count for head in heads]).tolist() if heads else []
        self._chosen = np.arange(self._ends[-1] if heads else 0)
        if selection is not None:
            self._choose(selection)
        self._spans: dict[int, _Spans] = {}
        self._descriptors: OrderedDict[int, int] = OrderedDict()
        self._owner = os.getpid()

    def _choose(self, selection: Selection) -> None:
        there, self._chosen = len(self), np.array(selection.samples, np.int64)
        if self._chosen.max(initial=-1) >= there:
            problem = Problem("data.json", f"sample {self._chosen.max()}", f"numbers below {there}", field="selection")
            raise ContractError("a selection asks for samples that its shards do not have", [problem])
        self.label_counts = Counter(selection.labels)
        self.keys.append(digest_of(selection.samples))  # what is kept of these samples is numbered as they are

    def __len__(self) -> int:
        return len(self._chosen)

    def row(self, index: int) -> Row:
        return Row.model_validate_json(self.read(index, "json"))

    def name(self, index: int) -> str:
        """What a person finds the sample by: its id and its place; read from the index, the shard may be damaged."""
        shard, number = self._find(index)
        try:
            sample = f"'{read_index(self.paths[shard]).samples[number].row.sample_id}'"
        except (OSError, ValueError, IndexError):
            sample = "of an index that cannot be read"
        return f"{self._tar(shard)}: sample {sample} (number {number})"

    def members(self, index: int) -> list[str]:
        shard, number = self._find(index)
        return self._spans_of(shard).names_of(number)

    def read(self, index: int, name: str) -> bytes:
        """The bytes of member ``name`` (``jpg``, ``semantic.png``, ``json``) of sample ``index``.

        Raises:
            DamagedShard: the shard is missing or shorter than its index says.
            KeyError: the sample has no such member.
        """
        shard, number = self._find(index)
        offset, length = self._spans_of(shard).span(number, name)
        try:
            data = os.pread(self._descriptor(shard), length, offset)
        except FileNotFoundError:
            raise DamagedShard(f"{self.place(index, name)}: the shard is missing") from None
        if len(data) != length:
            found = f"found {len(data)} of {length} bytes at offset {offset}"
            raise DamagedShard(f"{self.place(index, name)}: {found}, the shard is cut off")
        return data

    def place(self, index: int, name: str) -> str:
        """Where member ``name`` of a sample lies, for people."""
        return f"{self.name(index)}, member '{name}'"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_descriptors": OrderedDict()}

    def _find(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        place = int(self._chosen[index])
        shard = bisect_right(self._ends, place)
        return shard, place - (self._ends[shard - 1] if shard else 0)

    def _tar(self, shard: int) -> Path:
        return self.paths[shard].with_suffix(".tar")

    def _spans_of(self, shard: int) -> "_Spans":
        if shard not in self._spans:
            self._spans[shard] = _Spans(self.paths[shard])
        return self._spans[shard]

    def _descriptor(self, shard: int) -> int:
        if self._owner != os.getpid():
            # Forked: the parent may close and reuse the numbers that were inherited, and they are few.
            for descriptor in self._descriptors.values():
                os.close(descriptor)
            self._descriptors, self._owner = OrderedDict(), os.getpid()
        if shard not in self._descriptors:
            if len(self._descriptors) >= OPEN_SHARDS:
                os.close(self._descriptors.popitem(last=False)[1])
            self._descriptors[shard] = os.open(self._tar(shard), os.O_RDONLY | os.O_CLOEXEC)
        self._descriptors.move_to_end(shard)
        return self._descriptors[shard]


class _Spans:
    """Offset and length of every member of a shard, a few bytes each: a training may hold millions."""

    def __init__(self, path: Path) -> None:
        samples = read_members(path)
        self.names = list(dict.fromkeys(name for members in samples for name in members))
        self.places = np.full((len(samples), len(self.names), 2), -1, np.int64)
        for number, members in enumerate(samples):
            for name, member in members.items():
                self.places[number, self.names.index(name)] = member.offset, member.length

    def names_of(self, number: int) -> list[str]:
        return [name for name, (offset, _) in zip(self.names, self.places[number].tolist(), strict=True) if offset >= 0]

    def span(self, number: int, name: str) -> tuple[int, int]:
        offset, length = self.places[number, self.names.index(name)].tolist() if name in self.names else (-1, 0)
        if offset < 0:
            raise KeyError(name)
        return offset, length
