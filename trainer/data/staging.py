"""Deliveries become data directories: shards, ``data.json`` and ``slices.yaml``."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trainer.contract.delivery import count_labels, manifest_name, read_delivery
from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import OutsideRoot, inside, sha256_of, write_json, write_text
from trainer.contract.manifest import LABEL_FIELDS, Row, read_manifest
from trainer.contract.shard_index import DATA_FILE, DataSpec
from trainer.contract.slices import SLICES_FILE
from trainer.data.shards import Chunk, StagedShard, chunks, staged_chunk
from trainer.terminal.progress import counted

Print = Callable[[str], None]
Progress = Callable[[int, int], None]
"""``progress(done, total)``."""


def silent(done: int, total: int) -> None:
    """No progress is told."""


def data_directory(given: Path, work: Path, say: Print) -> Path:
    """``given`` if it is a data directory; a delivery is checked and staged into ``work/data`` first.

    Raises:
        ContractError: ``given`` is neither, or the delivery is not in order.
    """
    if (given / DATA_FILE).is_file():
        return given
    if not (given / SLICES_FILE).is_file():
        expected = f"a data directory ({DATA_FILE}) or a delivery ({manifest_name('train')}, …, {SLICES_FILE})"
        raise ContractError("no data to train on", [Problem(str(given), "neither", expected)])
    delivery = read_delivery(given, progress=counted("checked", "samples"))
    out = work / "data"
    store, shards = out / "shards", {}
    for split, rows in delivery.rows.items():
        shards[split] = list(_staged(chunks(rows, given, store), given, store, counted(f"staged {split}", "samples")))
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(given / SLICES_FILE, out / SLICES_FILE)
    write_data_spec(out, shards)
    fresh = sum(not shard.reused for split in shards.values() for shard in split)
    counts = ", ".join(f"{len(rows)} {split}" for split, rows in delivery.rows.items())
    say(f"staged {given}: {counts} ({fresh} new shards)")
    return out


def write_data_spec(out: Path, shards: dict[str, list[StagedShard]]) -> None:
    splits = {split: tuple(str(shard.path.relative_to(out)) for shard in staged) for split, staged in shards.items()}
    write_text(out / DATA_FILE, DataSpec(splits=splits).text)


def stage_manifest(
    manifest: Path, root: Path, out: Path, lists: Path, say: Print, progress: Progress = silent
) -> dict[str, Any]:
    """Stage the rows of ``manifest``, whose files are below ``root``, and write ``lists/<its stem>.json``; its content.

    For shards that are in ``out`` nothing below ``root`` is needed.

    Raises:
        ContractError: a row is bad, given twice, or names a file that is not there or not what the row says.
    """
    name, problems = manifest.stem, list[Problem]()
    numbered = list(_read(manifest, problems))
    rows = [row for _, row in numbered]
    found = chunks(rows, root, out)
    fresh = {row.sample_id for chunk in found if chunk.staged is None for row in chunk.rows}
    for number, row in numbered:
        problems += _file_problems(manifest, root, number, row) if row.sample_id in fresh else ()
    problems += _repeats(manifest, numbered)
    if problems:
        raise ContractError(f"{manifest} is refused", problems, "Nothing of it was staged.")
    summary = _summary(name, rows, list(_staged(found, root, out, progress)))
    summary["manifest_sha256"] = sha256_of(manifest)
    write_json(lists / f"{name}.json", summary)
    staged_bytes, reused = summary["bytes_staged"], summary["bytes_reused"]
    say(f"{name}: {len(rows)} samples, {staged_bytes} bytes staged, {reused} bytes already there")
    return summary


def _staged(found: Sequence[Chunk], root: Path, out: Path, progress: Progress) -> Iterator[StagedShard]:
    done, total = 0, sum(len(chunk.rows) for chunk in found)
    for chunk in found:
        yield staged_chunk(chunk, root, out)
        done += len(chunk.rows)
        progress(done, total)


def _read(manifest: Path, problems: list[Problem]) -> Iterator[tuple[int, Row]]:
    try:
        yield from read_manifest(manifest, problems)
    except OSError as error:
        problems.append(Problem(str(manifest), str(error.strerror), "a manifest that can be read"))


def _file_problems(manifest: Path, root: Path, number: int, row: Row) -> Iterator[Problem]:
    for field, reference in (("source-ref", row.source_ref), ("semantic-ref", row.semantic_ref)):
        if reference is None:
            continue
        try:
            there = inside(root, reference).is_file()
        except OutsideRoot:
            there = False
        if not there:
            yield Problem(str(manifest), f"'{reference}'", f"a file that exists inside {root}", number, field)


def _repeats(manifest: Path, numbered: Sequence[tuple[int, Row]]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for number, row in numbered:
        if first.setdefault(row.sample_id, number) != number:
            found = f"'{row.sample_id}', also on line {first[row.sample_id]}"
            yield Problem(str(manifest), found, "a sample_id used once", number, "sample_id")


def _summary(name: str, rows: list[Row], staged: list[StagedShard]) -> dict[str, Any]:
    attributes: dict[str, Counter[str]] = {}
    for row in rows:
        for key, value in row.attributes.items():
            attributes.setdefault(key, Counter())[str(value)] += 1
    return {
        "window": name,
        "samples": len(rows),
        "shards": [
            {"key": s.head.key, "sha256": s.head.sha256, "bytes": s.head.bytes, "samples": s.head.count} for s in staged
        ],
        "bytes_staged": sum(s.head.bytes for s in staged if not s.reused),
        "bytes_reused": sum(s.head.bytes for s in staged if s.reused),
        "label_counts": {
            **{kind: sum(row.has_label(kind) for row in rows) for kind in LABEL_FIELDS},
            **{f"boxes.{category}": n for category, n in _boxes(rows).items()},
        },
        "attribute_counts": {key: dict(counts) for key, counts in sorted(attributes.items())},
    }


def _boxes(rows: list[Row]) -> dict[str, int]:
    counts = count_labels(rows)
    return {name: counts[name] for name in sorted(counts) if name not in LABEL_FIELDS}
