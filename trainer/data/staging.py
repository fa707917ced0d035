"""Deliveries become data directories: shards, ``data.json`` and ``slices.yaml``."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from trainer.contract.delivery import SLICES_FILE, count_labels, manifest_name, read_delivery
from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import OutsideRoot, inside, write_json, write_text
from trainer.contract.manifest import LABEL_FIELDS, Row, read_manifest
from trainer.contract.shard_index import DATA_FILE, DataSpec
from trainer.contract.windows import Cadence, window_named, window_of
from trainer.data.shards import StagedShard, stage

Print = Callable[[str], None]


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
    delivery = read_delivery(given)
    out = work / "data"
    shards = {split: stage(rows, given, out / "shards") for split, rows in delivery.rows.items()}
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(given / SLICES_FILE, out / SLICES_FILE)
    write_data_spec(out, shards)
    fresh = sum(not shard.reused for split in shards.values() for shard in split)
    counts = ", ".join(f"{len(rows)} {split}" for split, rows in delivery.rows.items())
    say(f"staged {given}: {counts} ({fresh} new shards)")
    return out


def write_data_spec(out: Path, shards: dict[str, list[StagedShard]]) -> None:
    splits = {split: tuple(str(shard.path.relative_to(out)) for shard in staged) for split, staged in shards.items()}
    write_text(out / DATA_FILE, DataSpec(splits=splits).model_dump_json(indent=2) + "\n")


def stage_manifest(
    manifest: Path, windows: Sequence[str], cadence: Cadence, out: Path, lists: Path, say: Print
) -> None:
    """Stage the rows of each window of ``manifest`` and write ``lists/<window>.json`` for each.

    Without windows: all rows, and one list named after the manifest (``train`` for ``golden_train.manifest``).

    Raises:
        ContractError: a row is bad, given twice, or names a file that is not there or not what the row says; a window
            is none.
    """
    problems = list(_window_problems(windows, cadence))
    numbered = list(_read(manifest, problems))
    problems += chain.from_iterable(_file_problems(manifest, number, row) for number, row in numbered)
    problems += _repeats(manifest, numbered)
    if problems:
        raise ContractError(f"{manifest} is refused", problems, "Nothing was staged.")
    rows = [row for _, row in numbered]
    for name, chosen in _chosen(rows, manifest.stem.removeprefix("golden_"), windows, cadence):
        staged = stage(chosen, manifest.parent, out)
        summary = _summary(name, chosen, staged)
        write_json(lists / f"{name}.json", summary)
        staged_bytes, reused = summary["bytes_staged"], summary["bytes_reused"]
        say(f"{name}: {len(chosen)} samples, {staged_bytes} bytes staged, {reused} bytes already there")


def _window_problems(windows: Sequence[str], cadence: Cadence) -> Iterator[Problem]:
    for window in windows:
        try:
            window_named(window, cadence)
        except ValueError as error:
            yield Problem("--window", str(error), f"the first day of a {cadence} window, as 2026-01-05")


def _read(manifest: Path, problems: list[Problem]) -> Iterator[tuple[int, Row]]:
    try:
        yield from read_manifest(manifest, problems)
    except OSError as error:
        problems.append(Problem(str(manifest), str(error.strerror), "a manifest that can be read"))


def _file_problems(manifest: Path, number: int, row: Row) -> Iterator[Problem]:
    for field, reference in (("source-ref", row.source_ref), ("semantic-ref", row.semantic_ref)):
        if reference is None:
            continue
        try:
            there = inside(manifest.parent, reference).is_file()
        except OutsideRoot:
            there = False
        if not there:
            expected = "a file that exists inside the manifest's directory"
            yield Problem(str(manifest), f"'{reference}'", expected, number, field)


def _repeats(manifest: Path, numbered: Sequence[tuple[int, Row]]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for number, row in numbered:
        if first.setdefault(row.sample_id, number) != number:
            found = f"'{row.sample_id}', also on line {first[row.sample_id]}"
            yield Problem(str(manifest), found, "a sample_id used once", number, "sample_id")


def _chosen(rows: list[Row], name: str, windows: Sequence[str], cadence: Cadence) -> Iterable[tuple[str, list[Row]]]:
    if not windows:
        yield name, rows
    by_window: dict[str, list[Row]] = {}
    for row in rows:
        by_window.setdefault(window_of(row.captured_at, cadence).name, []).append(row)
    for window in windows:
        chosen = by_window.get(window_named(window, cadence).name, [])
        yield window, sorted(chosen, key=lambda row: (row.captured_at, row.sample_id))


def _summary(name: str, rows: list[Row], staged: list[StagedShard]) -> dict[str, Any]:
    attributes: dict[str, Counter[str]] = {}
    for row in rows:
        for key, value in row.attributes.items():
            attributes.setdefault(key, Counter())[str(value)] += 1
    return {
        "window": name,
        "samples": len(rows),
        "shards": [
            {"key": s.index.key, "sha256": s.index.sha256, "bytes": s.index.bytes, "samples": len(s.index.samples)}
            for s in staged
        ],
        "bytes_staged": sum(s.index.bytes for s in staged if not s.reused),
        "bytes_reused": sum(s.index.bytes for s in staged if s.reused),
        "label_counts": {
            **{kind: sum(row.has_label(kind) for row in rows) for kind in LABEL_FIELDS},
            **{f"boxes.{category}": n for category, n in _boxes(rows).items()},
        },
        "attribute_counts": {key: dict(counts) for key, counts in sorted(attributes.items())},
    }


def _boxes(rows: list[Row]) -> dict[str, int]:
    counts = count_labels(rows)
    return {name: counts[name] for name in sorted(counts) if name not in LABEL_FIELDS}
