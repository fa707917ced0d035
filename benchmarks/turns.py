"""Contestants that take turns: each in processes of its own, one at work at a time, the others stopped.

A contestant is a training loop that takes its batches from :class:`Batches`, which counts the steps of a turn and holds
the loop between two of them until its next turn. What a loop does beside its steps (saving, reporting) is in its time,
and a thread that it left at work does not run in another's turn. Short turns in rotating order spread what else the
machine does over all contestants alike.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from trainer.contract.ports import free_port
from trainer.process import die_with_parent

WARM_UP_STEPS = 6


@dataclass(frozen=True)
class Turn:
    """Seconds of the slowest rank, and CPU seconds of all ranks together."""

    seconds: float
    cpu_seconds: float

    def __add__(self, other: "Turn") -> "Turn":
        return Turn(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)


class Batches:
    """In the contestant's process: the same few batches again and again, a turn's number of them at a time."""

    def __init__(self, connection: Connection, batches: Sequence[Any]) -> None:
        self.connection, self.batches = connection, batches

    def __len__(self) -> int:
        return 10**9

    def __iter__(self) -> Iterator[Any]:
        step = 0
        while steps := self.connection.recv():
            began, cpu_began = time.perf_counter(), time.process_time()
            for _ in range(steps):
                yield self.batches[step % len(self.batches)]
                step += 1
            self.connection.send(Turn(time.perf_counter() - began, time.process_time() - cpu_began))


Work = Callable[..., None]
"""``work(connection, *arguments)``: trains until :class:`Batches` ends."""


class Contestant:
    """``len(cores)`` processes that run ``work``, as the ranks of one process group where they are several.

    Each is bound to its core; None leaves it free. What they print goes to ``log``.
    """

    def __init__(self, work: Work, arguments: Sequence[Any], log: Path, cores: Sequence[int | None] = (None,)) -> None:
        context = get_context("spawn")
        self.log, self.connections, self.processes = log, [], []
        port = free_port()
        for rank, core in enumerate(cores):
            here, there = context.Pipe()
            group = _group_of(rank, len(cores), port) if len(cores) > 1 else {}
            process = context.Process(target=_start, args=(work, there, arguments, log, core, group))
            process.start()
            there.close()
            self.connections.append(here)
            self.processes.append(process)

    def begin(self, steps: int) -> None:
        """Let it do ``steps`` steps."""
        self._tell("resume")
        for connection in self.connections:
            connection.send(steps)

    def finish(self) -> Turn:
        """Wait until they are done; it is stopped then."""
        turns = [self._answer(connection) for connection in self.connections]
        self._tell("suspend")
        return together(turns)

    def end(self) -> None:
        self._tell("resume")
        for connection in self.connections:
            connection.send(0)
        for process in self.processes:
            process.join()

    def _answer(self, connection: Connection) -> Turn:
        try:
            turn: Turn = connection.recv()
        except EOFError:
            raise RuntimeError(f"a contestant died: {self.log.read_text()[-3000:]}") from None
        return turn

    def _tell(self, what: str) -> None:
        for process in self.processes:
            parent = psutil.Process(process.pid)
            for one in [parent, *parent.children(recursive=True)]:
                getattr(one, what)()


def together(turns: Sequence[Turn]) -> Turn:
    """Of processes that worked at the same time."""
    return Turn(max(turn.seconds for turn in turns), sum(turn.cpu_seconds for turn in turns))


Entry = Contestant | Sequence[Contestant]
"""One that has the machine for itself in its turn, or several that share it, though nothing else."""


def compete(entries: Mapping[str, Entry], rounds: int, turns: int, steps: int) -> dict[str, list[Turn]]:
    """Each entry's ``rounds``, each the sum of ``turns`` turns of ``steps`` steps, after a warm-up."""
    names = list(entries)
    for name in names:
        _turn(entries[name], WARM_UP_STEPS)
    results: dict[str, list[Turn]] = {name: [] for name in names}
    for number in range(rounds):
        sums = dict.fromkeys(names, Turn(0.0, 0.0))
        for turn in range(turns):
            first = (number * turns + turn) % len(names)
            for name in names[first:] + names[:first]:
                sums[name] += _turn(entries[name], steps)
        for name in names:
            results[name].append(sums[name])
        speeds = (f"{name} {turns * steps / sums[name].seconds:.2f}" for name in names)
        print(f"round {number + 1}/{rounds}, steps/s: {', '.join(speeds)}", flush=True)
    for entry in entries.values():
        for contestant in _several(entry):
            contestant.end()
    return results


def _turn(entry: Entry, steps: int) -> Turn:
    contestants = _several(entry)
    for contestant in contestants:
        contestant.begin(steps)
    return together([contestant.finish() for contestant in contestants])


def _several(entry: Entry) -> Sequence[Contestant]:
    return [entry] if isinstance(entry, Contestant) else entry


def _group_of(rank: int, world_size: int, port: int) -> dict[str, str]:
    """torchrun's environment of a rank."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _start(
    work: Work, connection: Connection, arguments: Sequence[Any], log: Path, core: int | None, group: Mapping[str, str]
) -> None:
    # A stopped process would outlive whoever stopped it.
    die_with_parent()
    os.environ |= group
    if core is not None:
        os.sched_setaffinity(0, {core})
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    work(connection, *arguments)
