"""What W&B's own reader finds in a run's files."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Read:
    """One W&B file; ``text`` is all of its bytes."""

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[Any] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    stats: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None
    kinds: set[str] = field(default_factory=set)


def wandb_files(run_dir: Path) -> list[Path]:
    return sorted((run_dir / "tracking" / "wandb").glob("*run-*/*.wandb"))


def read_all(run_dir: Path) -> list[Read]:
    """The sessions of the run, the first one first."""
    return [read(path) for path in wandb_files(run_dir)]


def rows_of(run_dir: Path) -> list[dict[str, Any]]:
    return [row for one in read_all(run_dir) for row in one.history]


def read(path: Path) -> Read:
    found = Read()
    for record in _records(path):
        kind = record.WhichOneof("record_type")
        found.kinds.add(kind)
        if kind == "run":
            found.run = record.run
            found.config |= _values(record.run.config.update)
        elif kind == "config":
            found.config |= _values(record.config.update)
        elif kind == "history":
            found.history.append(_values(record.history.item))
        elif kind == "summary":
            found.summary |= _values(record.summary.update)
        elif kind == "artifact":
            found.artifacts.append(record.artifact)
        elif kind == "files":
            found.files += [one.path for one in record.files.files]
        elif kind == "stats":
            found.stats.append({item.key: item.value_json for item in record.stats.item})
        elif kind == "exit":
            found.exit_code = record.exit.exit_code
    return found


def _records(path: Path) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    store = DataStore()
    store.open_for_scan(str(path))
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        yield record


def _values(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
