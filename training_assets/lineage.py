"""From a registered version back to the frames, for people (:func:`describe`) and for programs (:func:`as_dict`)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from trainer.contract.errors import ContractError, Problem
from trainer.contract.shard_index import ShardIndex, read_index
from training_assets.stores.entries import RegistryEntry, ShardRef
from training_assets.stores.registry import Registry

FIRST_FRAMES = 5
INDENT = "  "


@dataclass(frozen=True)
class Frame:
    """One sample that the model was trained, chosen or judged on."""

    split: str
    sample_id: str
    source_ref: str | None
    sha256: str
    captured_at: datetime
    captured_at_source: str
    origin: str
    licence: str
    shard: str


@dataclass(frozen=True)
class Counts:
    """How many frames there are of each split, origin, licence and source of the capture time; first and last time."""

    splits: dict[str, int]
    origins: dict[str, int]
    licences: dict[str, int]
    captured_at_sources: dict[str, int]
    first: datetime | None
    last: datetime | None


def describe(entry: RegistryEntry, registry: Registry) -> str:
    """The way back as plain text. Shards that are no longer staged as they were are named, not an error."""
    sections = [
        ("version", _version(entry, registry)),
        ("aliases", _aliases(entry, registry)),
        ("gates", _gates(entry)),
        ("run", _run(entry)),
        ("code", _code(entry)),
        ("training set", _training_set(entry)),
        ("dataset version", _dataset(entry)),
        ("frames", _frames(entry, registry.root)),
    ]
    lines = [entry.reference]
    for title, content in sections:
        lines += ["", title, *(f"{INDENT}{line}" for line in content)]
    return "\n".join(lines)


def as_dict(entry: RegistryEntry, registry: Registry) -> dict[str, Any]:
    """The whole entry, its aliases with their history, and the counts of its frames, as JSON values."""
    here, gone = _staged(entry, registry.root)
    counts = count(frames_of(here, registry.root))
    pointing = [name for name, newest in registry.aliases(entry.project).items() if newest.version == entry.version]
    return {
        **entry.model_dump(mode="json"),
        "reference": entry.reference,
        "aliases": pointing,
        "history": [
            move.model_dump(mode="json") for name in pointing for move in registry.history(entry.project, name)
        ],
        "frames": {
            "splits": counts.splits,
            "origins": counts.origins,
            "licences": counts.licences,
            "captured_at_sources": counts.captured_at_sources,
            "first_captured_at": counts.first.isoformat() if counts.first else None,
            "last_captured_at": counts.last.isoformat() if counts.last else None,
        },
        "shards_not_staged": [shard.key for shard in gone],
    }


def frames(entry: RegistryEntry, store: Path) -> Iterator[Frame]:
    """Every frame behind ``entry``, in the order of its shards.

    Raises:
        ContractError: a shard is no longer staged, or is not the one that was trained on.
    """
    return frames_of(entry.lineage.training_set.shards, store)


def frames_of(shards: Mapping[str, Sequence[ShardRef]], store: Path) -> Iterator[Frame]:
    """Every frame of ``shards`` (by split)."""
    for split, refs in shards.items():
        for ref in refs:
            for sample in _index(ref, store).samples:
                row = sample.row
                yield Frame(
                    split=split,
                    sample_id=row.sample_id,
                    source_ref=row.source_ref,
                    sha256=row.sha256,
                    captured_at=row.captured_at,
                    captured_at_source=row.captured_at_source,
                    origin=row.origin,
                    licence=row.licence,
                    shard=ref.key,
                )


def count(found: Iterable[Frame]) -> Counts:
    every = list(found)
    times = [frame.captured_at for frame in every]
    return Counts(
        splits=dict(Counter(frame.split for frame in every)),
        origins=dict(Counter(frame.origin for frame in every).most_common()),
        licences=dict(Counter(frame.licence for frame in every).most_common()),
        captured_at_sources=dict(Counter(frame.captured_at_source for frame in every).most_common()),
        first=min(times, default=None),
        last=max(times, default=None),
    )


def _index(ref: ShardRef, store: Path) -> ShardIndex:
    path = _index_path(ref, store)
    if not path.is_file():
        problem = Problem(str(path), "nothing", "the index of a shard that the model was made from")
        raise ContractError(
            "a shard is no longer staged", [problem], "Materialise staged_shards and eval_shards again."
        )
    index = read_index(path)
    if index.sha256 != ref.sha256:
        problem = Problem(str(path), index.sha256, f"{ref.sha256}, the shard that was trained on")
        raise ContractError("a shard is not the one that was trained on", [problem])
    return index


def _index_path(ref: ShardRef, store: Path) -> Path:
    return store / "shards" / f"{ref.key}.json"


def _staged(entry: RegistryEntry, store: Path) -> tuple[dict[str, list[ShardRef]], list[ShardRef]]:
    """The shards that are still there as they were trained on, by split, and the others."""
    shards = entry.lineage.training_set.shards
    here = {split: [ref for ref in refs if _is_staged(ref, store)] for split, refs in shards.items()}
    return here, [ref for split, refs in shards.items() for ref in refs if ref not in here[split]]


def _is_staged(ref: ShardRef, store: Path) -> bool:
    path = _index_path(ref, store)
    return path.is_file() and read_index(path).sha256 == ref.sha256


def _version(entry: RegistryEntry, registry: Registry) -> list[str]:
    damaged = registry.verify(entry)
    state = "files are as they were registered" if not damaged else "DAMAGED: " + "; ".join(map(str, damaged))
    size = sum(record.bytes for record in entry.files.values())
    return [
        f"registered {entry.created_at:%Y-%m-%d %H:%M:%S} UTC from recipe {entry.recipe}",
        f"{len(entry.files)} files, {size:,} bytes in {registry.where(entry)}; {state}",
        *(f"{name}  {record.sha256}  {record.bytes:,} bytes" for name, record in entry.files.items()),
    ]


def _aliases(entry: RegistryEntry, registry: Registry) -> list[str]:
    lines = []
    for name, newest in registry.aliases(entry.project).items():
        for move in registry.history(entry.project, name):
            if entry.version in (move.version, move.previous):
                why = f": {move.reason}" if move.reason else ""
                now = " (now)" if move == newest and move.version == entry.version else ""
                lines.append(
                    f"{name}: {move.previous or '–'} → {move.version}{now}, {move.at:%Y-%m-%d}, {move.by}{why}"
                )
    return lines or ["none"]


def _gates(entry: RegistryEntry) -> list[str]:
    word = {True: "passed", False: "failed"}
    lines = [f"{gate.name}: {word[gate.passed]}, {_tally(row.passed for row in gate.rows)}" for gate in entry.gates]
    return lines or ["none"]


def _tally(verdicts: Iterable[bool | None]) -> str:
    found = Counter(verdicts)
    undecided = f", {found[None]} undecided" if found[None] else ""
    return f"{found[True]} of {found.total()} comparisons passed{undecided}"


def _run(entry: RegistryEntry) -> list[str]:
    run, sweep = entry.lineage.run, entry.lineage.sweep
    optional = {
        "Dagster run": run.dagster_run_id,
        "launched with profile": run.profile,
        "set for this run alone:": ", ".join(run.overrides),
        "warm started from": run.warm_started_from,
        "winner of": sweep and f"sweep {sweep.tune}, as trial {sweep.trial}",
    }
    return [
        f"id {run.run_id}, {run.world_size} ranks, seeds {', '.join(map(str, run.seeds))}",
        f"config digest {run.config_digest}",
        *(f"{name} {value}" for name, value in optional.items() if value),
        *(f"{split}: {_scores(metrics)}" for split, metrics in entry.metrics.items()),
    ]


def _scores(metrics: Mapping[str, float | None]) -> str:
    general = {name: value for name, value in metrics.items() if name.count("/") == 1}
    return ", ".join(f"{name} {'–' if value is None else f'{value:.4f}'}" for name, value in general.items())


def _code(entry: RegistryEntry) -> list[str]:
    code = entry.lineage.code
    state = {True: "with uncommitted changes", False: "clean", None: "state not known"}[code.dirty]
    return [
        f"commit {code.git_sha or 'not known'}, {state}",
        f"requirements.lock sha256 {code.lock_sha256 or 'not known'}",
        f"image {code.image_digest or 'none: it ran outside a container image'}",
        *([f"note: {code.note}"] if code.note else []),
    ]


def _training_set(entry: RegistryEntry) -> list[str]:
    used = entry.lineage.training_set
    return [
        f"digest {used.digest}",
        f"window {used.window}: {len(used.windows)} windows with rows ({', '.join(used.windows) or 'none'})",
        *([f"windows without rows: {', '.join(used.windows_missing)}"] if used.windows_missing else []),
        *([f"mined slices: {', '.join(used.mined_slices)}"] if used.mined_slices else []),
        *(f"{split} shard {ref.key}  {ref.sha256}" for split, refs in used.shards.items() for ref in refs),
    ]


def _dataset(entry: RegistryEntry) -> list[str]:
    dataset = entry.lineage.dataset
    return [
        f"{dataset.version}, DVC md5 {dataset.dvc_hash}",
        *(f"{name}  {digest}" for name, digest in dataset.manifests.items()),
    ]


def _frames(entry: RegistryEntry, store: Path) -> list[str]:
    here, gone = _staged(entry, store)
    every = list(frames_of(here, store))
    counts = count(every)
    shown = [frame_line(frame) for frame in every[:FIRST_FRAMES]]
    rest = len(every) - len(shown)
    return [
        f"{len(every)} frames: {_listing(counts.splits)}",
        f"origins: {_listing(counts.origins)}",
        f"licences: {_listing(counts.licences)}",
        f"capture times: {_listing(counts.captured_at_sources)}; {_span(counts)}",
        *shown,
        *([f"… and {rest} more"] if rest > 0 else []),
        *(f"shard {ref.key} is no longer staged as it was: its frames are not counted" for ref in gone),
    ]


def frame_line(frame: Frame) -> str:
    """One frame as a line: split, sample id, source-ref, sha256 of the image."""
    return f"{frame.split}  {frame.sample_id}  {frame.source_ref or '(tracks alone)'}  {frame.sha256}"


def _listing(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items()) or "none"


def _span(counts: Counts) -> str:
    return f"{counts.first:%Y-%m-%d} to {counts.last:%Y-%m-%d}" if counts.first and counts.last else "no times"
