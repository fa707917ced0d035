"""One try of a run: where its own files lie, and how far each of its ranks got."""

import mmap
import os
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer.contract.results import FAILURE_FILE

ATTEMPT_VARIABLE = "TRAINING_ASSETS_ATTEMPT"
"""Environment variable with the attempt's name; launchers set it."""

BY_HAND = "by-hand"
"""The attempt of a training that no launcher started."""

LAYOUT = struct.Struct("<qqqd")


def attempt_dir(run_dir: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Where this process's attempt keeps what belongs to it alone."""
    return run_dir / "attempts" / (environment.get(ATTEMPT_VARIABLE) or BY_HAND)


def failure_path(run_dir: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Where this process leaves word of its failure: two attempts at one run must not answer for each other."""
    launched = bool(environment.get(ATTEMPT_VARIABLE))
    return (attempt_dir(run_dir, environment) if launched else run_dir) / FAILURE_FILE


@dataclass(frozen=True)
class Beat:
    """How far a rank was at ``at`` (seconds since 1970): the step it began last and the one it finished last."""

    rank: int
    pid: int
    begun: int
    finished: int
    at: float

    def __str__(self) -> str:
        where = f"after step {self.finished}" if self.finished else "before its first step ended"
        return f"rank {self.rank} ({where})"


class Heartbeat:
    """A rank's beats in a memory-mapped file: a write costs about a microsecond and outlives SIGKILL."""

    def __init__(self, directory: Path, rank: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        with open(_path(directory, rank), "w+b") as stream:
            stream.truncate(LAYOUT.size)
            self._memory = mmap.mmap(stream.fileno(), LAYOUT.size)
        self._pid = os.getpid()

    def beat(self, begun: int, finished: int) -> None:
        LAYOUT.pack_into(self._memory, 0, self._pid, begun, finished, time.time())


def read_beat(directory: Path, rank: int) -> Beat | None:
    """The last beat of ``rank``; None if it never began to train."""
    path = _path(directory, rank)
    content = path.read_bytes() if path.is_file() else b""
    if len(content) != LAYOUT.size:
        return None
    pid, begun, finished, at = LAYOUT.unpack(content)
    return Beat(rank, pid, begun, finished, at) if pid else None


def forget_beat(directory: Path, rank: int) -> None:
    """Remove what an earlier process left under the same names."""
    _path(directory, rank).unlink(missing_ok=True)


def missing_ranks(directory: Path, world_size: int) -> str:
    """Of ranks that wait for each other, those that the others wait for, in words; empty if none is behind."""
    beats = {rank: read_beat(directory, rank) for rank in range(world_size)}
    reached = {rank: (beat.begun, beat.finished) if beat else (-1, -1) for rank, beat in beats.items()}
    front = max(reached.values(), default=(-1, -1))
    late = [beats[rank] or f"rank {rank} (not yet training)" for rank in reached if reached[rank] < front]
    if not late:
        return ""
    return f"Did not arrive: {', '.join(map(str, late))}; the other ranks wait in step {front[0]}."


def _path(directory: Path, rank: int) -> Path:
    return directory / f"heartbeat-{rank}"
