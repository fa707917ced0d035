"""What lies in a store and what refers to it, as the retention rule asks; and taking away what may go.

Registered models, the registry, pinned data and records are no things: they are never taken away.
"""

import contextlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from trainer.contract.shard_index import DATA_FILE
from training_assets.places import Places
from training_assets.retention import Kind, Thing
from training_assets.stores.registry import Registry

RETIRED = ".retired"
RESULT_FILE = "result.json"
TEMPORARY = re.compile(r"^\..*\.tmp$")
"""What a killed process was writing."""


def inventory(places: Places) -> list[Thing]:
    """Everything below the store that may ever go. Its name is its path below the store."""
    sets = [_directory(places, "training_sets", path) for path in places.root.glob("training_sets/*/*")]
    alone, tried = places.root.glob("runs/_runs/*"), places.root.glob("runs/*/*-cv*/*")
    runs = [thing for path in chain(alone, tried) for thing in _run(places, path, sets)]
    scratch = [_directory(places, "launches", path) for path in places.root.glob("launches/*")]
    evaluations = [_directory(places, "slice_evals", path) for path in places.root.glob("slice_evals/*/*")]
    evaluations += [_directory(places, "evaluations", path) for path in places.root.glob("evaluations/*/*")]
    fetched = [_directory(places, "fetched", path) for path in places.fetched.glob("*")]
    return [*runs, *sets, *evaluations, *scratch, *fetched, *_shards(places)]


def named(places: Places, registry: Registry, things: Iterable[Thing]) -> set[str]:
    """The names of the things that the registry, a sweep or a current record names, by a path, a shard's key or a run's
    id.
    """
    names = {thing.name for thing in things}
    by_id = {name[-8:]: name for name in names if name.startswith("runs/")} | {
        PurePosixPath(name).name: name for name in names if name.startswith("shards/")
    }
    found: set[str] = set()
    kept = chain(places.records.rglob("*.json"), places.root.glob("sweeps/*/plan.json"))
    records = (path.read_bytes() for path in kept)
    for document in chain(records, registry.documents()):
        for word in _words(json.loads(document)):
            relative = PurePosixPath(word.removeprefix(f"{places.root}/"))
            found |= {str(part) for part in (relative, *relative.parents)} & names
            found |= {by_id[word]} if word in by_id else set()
    return found


def retire(places: Places, things: Iterable[Thing], before: float) -> list[Thing]:
    """Take ``things`` away, except what was used since they were listed; those that went.

    Each goes in one step, so that whatever is left of a killed clearing is whole, and the next goes on.
    """
    grave = places.root / RETIRED
    shutil.rmtree(grave, ignore_errors=True)  # what a killed one left
    gone = []
    for thing in things:
        there = [path for path in thing.paths if path.exists()]
        if any(_newest(path) >= before for path in there):
            continue
        grave.mkdir(exist_ok=True)
        for path in there:
            with contextlib.suppress(FileNotFoundError):
                path.rename(grave / uuid4().hex)
        shutil.rmtree(grave)
        gone.append(thing)
    return gone


def _directory(places: Places, kind: Kind, path: Path, needs: Iterable[str] = ()) -> Thing:
    return Thing(
        places.relative(path), kind, (path,), _bytes(path), _newest(path), frozenset({*_shards_of(path), *needs})
    )


def _run(places: Places, path: Path, sets: list[Thing]) -> Iterator[Thing]:
    """A run and its checkpoints. They are needed until it has its result; which of them a record names is known there.

    A run that is not at its end may train on any set of its recipe and window: sets are replaced, runs go on.
    """
    steps = list(path.glob("checkpoints/step-*"))
    result = path / RESULT_FILE
    digest = json.loads(result.read_bytes())["data_digest"][:8] if result.is_file() else ""
    used = [one.name for one in sets if path.name.startswith(_run_prefix(one)) and one.name.endswith(digest)]
    checkpoints = [_directory(places, "checkpoints", step, [places.relative(path)]) for step in steps]
    run = _directory(places, "runs", path, [*used, *(() if digest else (one.name for one in checkpoints))])
    yield from checkpoints
    yield Thing(
        run.name, run.kind, run.paths, run.bytes - sum(one.bytes for one in checkpoints), run.modified, run.needs
    )


def _run_prefix(training_set: Thing) -> str:
    """How the names of runs begin that train on it: ``<recipe>-<window>-``."""
    _, recipe, name = PurePosixPath(training_set.name).parts
    return f"{recipe}-{name.rpartition('-')[0]}-"


def _shards(places: Places) -> Iterator[Thing]:
    """Each index with its tar, the index first: without one there is no shard. Then what has no index."""
    indexes = {path.stem for path in places.shards.glob("*.json")}
    for key in sorted(indexes):
        paths = (places.shards / f"{key}.json", places.shards / f"{key}.tar")
        there = [path for path in paths if path.exists()]
        yield Thing(f"shards/{key}", "shards", paths, sum(map(_bytes, there)), max(map(_newest, there), default=0.0))
    for path in places.shards.glob("*"):
        if TEMPORARY.match(path.name) or (path.suffix == ".tar" and path.stem not in indexes):
            yield Thing(places.relative(path), "leftovers", (path,), _bytes(path), _newest(path))


def _shards_of(directory: Path) -> Iterator[str]:
    for path in directory.rglob(DATA_FILE):
        for names in json.loads(path.read_bytes())["splits"].values():
            yield from (f"shards/{PurePosixPath(name).stem}" for name in names)


def _words(value: Any) -> Iterator[str]:
    """Every string in a record; and the last checkpoint's path, which a record has in two parts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _words(item)
        if isinstance(result := value.get("result"), dict) and result.get("last_checkpoint"):
            yield f"{value['directory']}/{result['last_checkpoint']}"
    elif isinstance(value, list):
        for item in value:
            yield from _words(item)


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in _files(path))


def _newest(path: Path) -> float:
    """Of files alone: a directory's own time changes when something is taken out of it."""
    return max((file.stat().st_mtime for file in _files(path) or [path]), default=0.0)
