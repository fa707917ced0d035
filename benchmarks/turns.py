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
    """``len(cores)`` processes that run ``work`` as the ranks of one process group, or each ``alone``.

    Each is bound to its core; None leaves it free. What they print goes to ``log``.
    """

    def __init__(
        self, work: Work, arguments: Sequence[Any], log: Path, cores: Sequence[int | None] = (None,), alone: bool = False
    ) -> None:
        context = get_context("spawn")
        self.log, self.connections, self.processes = log, [], []
        port = 29500 + os.getpid() % 10000 + hash(log) % 1000
        for rank, core in enumerate(cores):
            here, there = context.Pipe()
            group = {} if alone or len(cores) == 1 else group_of(rank, len(cores), port)
            process = context.Process(target=_start, args=(work, there, arguments, log, core, group), daemon=False)
            process.start()
            there.close()
            self.connections.append(here)
            self.processes.append(process)

    def take_turn(self, steps: int) -> Turn:
        """Let it do ``steps`` steps; afterwards it is stopped."""
        self._tell("resume")
        for connection in self.connections:
            connection.send(steps)
        turns = [self._answer(connection) for connection in self.connections]
        self._tell("suspend")
        return Turn(max(turn.seconds for turn in turns), sum(turn.cpu_seconds for turn in turns))

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


def compete(contestants: Mapping[str, Contestant], rounds: int, turns: int, steps: int) -> dict[str, list[Turn]]:
    """Each contestant's ``rounds``, each the sum of ``turns`` turns of ``steps`` steps, after a warm-up."""
    names = list(contestants)
    for name in names:
        contestants[name].take_turn(WARM_UP_STEPS)
    results: dict[str, list[Turn]] = {name: [] for name in names}
    for number in range(rounds):
        sums = dict.fromkeys(names, Turn(0.0, 0.0))
        for turn in range(turns):
            first = (number * turns + turn) % len(names)
            for name in names[first:] + names[:first]:
                sums[name] += contestants[name].take_turn(steps)
        for name in names:
            results[name].append(sums[name])
        print(f"round {number + 1}/{rounds}: " + ", ".join(
            f"{name} {turns * steps / sums[name].seconds:.2f} steps/s" for name in names), flush=True)  # fmt: skip
    return results


def group_of(rank: int, world_size: int, port: int) -> dict[str, str]:
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
    os.environ |= group
    if core is not None:
        os.sched_setaffinity(0, {core})
    stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    work(connection, *arguments)
