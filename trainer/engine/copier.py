"""Copies finished checkpoints to an object store, in a process of its own, and brings the newest back.

The store (any place fsspec knows: ``s3://bucket/prefix``, a directory) holds ``<checkpoint>/<file>`` and, written last,
``<checkpoint>/COMPLETE``, as the run directory does.
"""

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from upath import UPath

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sync_directory, write_bytes
from trainer.engine.checkpoint_files import (
    MARKER,
    PARTIAL,
    complete_checkpoints,
    damaged_files,
    is_permanent,
    passing,
    step_of,
)
from trainer.process import die_with_parent

TICK = 0.5


class Damaged(OSError):
    """A file is not what the marker of its checkpoint says."""


@dataclass(frozen=True)
class CopyPlan:
    """Copied are checkpoints at least ``every`` steps apart and the permanent ones; kept are as many as locally."""

    every: int = 1
    keep_last: int = 2
    keep_every: int | None = None

    def chosen(self, finished: Sequence[str], copied: Sequence[str], last_call: bool) -> list[str]:
        """Which of ``finished``, the oldest first, are to be copied now; on the ``last_call`` the newest always."""
        chosen, last = [], max(map(step_of, copied), default=None)
        for name in finished:
            step = step_of(name)
            due = last is None or step >= last + self.every or (last_call and name == finished[-1])
            if name not in copied and (due or is_permanent(name, self.keep_every)):
                chosen.append(name)
                last = step
        return chosen


def copy_finished(root: Path, store: UPath, plan: CopyPlan, last_call: bool = True) -> list[str]:
    """Copy what ``plan`` chooses of the finished checkpoints in ``root`` to ``store``; the names that were copied.

    One that is removed or damaged meanwhile is left out: the next is not far.
    """
    copied = []
    finished = [directory.name for directory in complete_checkpoints(root)]
    for name in plan.chosen(finished, _complete_in(store), last_call):
        try:
            _copy(root / name, store / name)
            copied.append(name)
        except (FileNotFoundError, Damaged) as error:
            print(f"checkpoint {name} was not copied to {store}: {error}", flush=True)
    for name in passing(_complete_in(store), plan.keep_last, plan.keep_every):
        _remove(store / name)
    return copied


def fetch_newest(store: UPath, root: Path) -> str | None:
    """Bring the newest complete checkpoint of ``store`` into ``root``; its name, or None if there is none.

    A damaged one is named on standard output and the one before it is taken.
    """
    for name in reversed(_complete_in(store)):
        partial = root / f"{name}{PARTIAL}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _fetch(store / name, partial)
        if damage := damaged_files(partial):
            print(f"checkpoint {store / name} is damaged ({'; '.join(damage)}): trying the one before it", flush=True)
            shutil.rmtree(partial)
            continue
        shutil.rmtree(root / name, ignore_errors=True)  # what is there under its name is damaged
        # Renamed with its marker: whole or not there.
        partial.rename(root / name)
        sync_directory(root)
        return name
    return None


def _fetch(source: UPath, directory: Path) -> None:
    """Bring what is there of ``source``: what is missing shows when the marker is compared with the files."""
    for path in _files(source):
        with path.open("rb") as stream, open(directory / path.name, "wb") as target:
            shutil.copyfileobj(stream, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
    sync_directory(directory)


def watch(root: Path, store: UPath, plan: CopyPlan) -> None:
    """Copy what is finished, again and again, until something comes on standard input or it ends; then once more.

    A store that cannot be reached is told of and tried again: the training does not depend on it.
    """
    ended = False
    while not ended:
        ended = bool(select.select([sys.stdin.buffer], [], [], TICK)[0])
        try:
            copy_finished(root, store, plan, last_call=ended)
        except Exception as error:
            print(f"checkpoints cannot be copied to {store}: {type(error).__name__}: {error}", flush=True)
            if ended:
                raise


class Copier:
    """The copying process beside a training, started by its leader. Nothing waits for it but the end of the run."""

    def __init__(self, run_dir: Path, uri: str, plan: CopyPlan) -> None:
        arguments = ["copy-checkpoints", str(run_dir), uri, "--watch"]
        for name, value in asdict(plan).items():
            if value is not None:
                arguments += [f"--{name.replace('_', '-')}", str(value)]
        self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, "-m", "trainer", *arguments],
            stdin=subprocess.PIPE,
            preexec_fn=_alone,
        )

    def finish(self, seconds: float) -> bool:
        """Let it copy what is finished now and end; whether it did so within ``seconds``."""
        try:
            # Closing alone would not do: the loader's workers, forked since, hold the pipe open too.
            self._process.communicate(b"end\n", seconds)
            return self._process.returncode == 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False


def store_at(uri: str) -> UPath:
    """
    Raises:
        ContractError: no file system is known for the scheme of ``uri``.
    """
    try:
        return UPath(uri)
    except (ValueError, ImportError) as error:
        problem = Problem("--copy-to", uri, "a directory or a URI that fsspec knows, like s3://bucket/prefix")
        raise ContractError(f"the object store cannot be used: {error}", [problem]) from None


def _alone() -> None:
    # A signal to the whole group is the training's to handle: the copier ends with its standard input or its parent.
    os.setpgid(0, 0)
    die_with_parent()


def _copy(directory: Path, target: UPath) -> None:
    if damage := damaged_files(directory):
        raise Damaged("; ".join(damage))
    target.mkdir(parents=True, exist_ok=True)
    marker = (directory / MARKER).read_bytes()
    for file in json.loads(marker)["files"]:
        with open(directory / file, "rb") as source, (target / file).open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    _put(target / MARKER, marker)


def _put(path: UPath, content: bytes) -> None:
    """Whole or not at all: one request of an object store is; a file of a directory has to be renamed into place."""
    if path.protocol in ("", "file", "local"):
        write_bytes(Path(path.path), content)
    else:
        path.write_bytes(content)


def _complete_in(store: UPath) -> list[str]:
    if not store.exists():
        return []
    return sorted(path.name for path in _directories(store) if (path / MARKER).exists())


def _directories(store: UPath) -> Iterable[Any]:
    return [path for path in store.iterdir() if path.name.startswith("step-") and path.is_dir()]


def _files(directory: UPath) -> list[Any]:
    return [path for path in directory.iterdir() if path.is_file()]


def _remove(directory: UPath) -> None:
    (directory / MARKER).unlink()
    for path in _files(directory):
        path.unlink()
    if directory.exists():  # an object store has no empty directories
        directory.rmdir()
