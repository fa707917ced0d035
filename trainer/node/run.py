"""From the meeting of the nodes to the end of this one.

The command runs under torchrun with a static rendezvous and no restarts: where one node is lost all end, and the next
attempt resumes from a checkpoint. Whoever ends badly first leaves word of it, and the other nodes follow: no node
waits, and costs, for peers that are gone, whether or not a launcher is there to see it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from trainer.contract.files import write_text
from trainer.contract.memory import oom_kills
from trainer.contract.nodes import (
    LEADER_VARIABLE,
    PORT_TAKEN,
    FirstEnd,
    NodeAddress,
    NodeCause,
    NodeEnd,
    address_path,
    end_path,
    first_end_path,
    node_log,
    rank_logs,
    read_address,
    write_once,
)
from trainer.contract.ports import free_port
from trainer.node.failure import leave_failure
from trainer.node.place import own_address
from trainer.node.spot import is_to_be_lost
from trainer.process import die_with_parent

TICK = 0.1
LOOK_EVERY = 1.0
"""Seconds between looks at whether another node has ended."""

SPOT_EVERY = 5.0
GRACE = 110.0
"""Seconds in which what was told to stop may save a checkpoint and copy it. A host has 120 until it is lost."""

STARTS = 5
"""How often the command is started anew because its free port was taken before torchrun could listen on it."""

ALONE = 76
"""Exit code of a node that waited in vain for the others (BSD's EX_PROTOCOL)."""


@dataclass(frozen=True)
class Plan:
    """What a node is to do. ``ranks``: processes that torchrun starts here; 0: ``command`` alone, without it.

    ``command`` follows the interpreter (``-m trainer train …``). ``port`` is node 0's for the ranks to meet at (None:
    a free one); after ``seconds`` the node ends whatever goes on; ``patience`` are the seconds to wait for the others.
    ``echo`` repeats the log on standard output, for backends that keep that.
    """

    attempt_dir: Path
    command: tuple[str, ...]
    nodes: int = 1
    ranks: int = 0
    port: int | None = None
    seconds: float | None = None
    patience: float = 900.0
    watch_spot: bool = False
    echo: bool = False


class Node:
    """Node ``number`` of ``plan``; ``run`` returns its exit code."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.plan, self.number = plan, number
        self.log = node_log(plan.attempt_dir, number)
        self.cause: NodeCause | None = None
        self.began = time.monotonic()
        self._told = threading.Event()
        self._spot = threading.Event()
        self._kills = oom_kills()
        self._looked = 0.0

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._told.set())
        if self.plan.watch_spot:
            threading.Thread(target=self._watch_spot, daemon=True).start()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            echo = Echo(self.log, log.tell()) if self.plan.echo else None
            begin, code = self._all_starts(log.fileno())
        if echo:
            echo.finish()
        return self._ended(begin, code)

    def _all_starts(self, log: int) -> tuple[int, int]:
        """Where the last start's output begins in the log, and its exit code."""
        for start in range(1, STARTS + 1):
            begin = self.log.stat().st_size
            master = self._meet()
            if master is None:
                return begin, ALONE if self.cause == "alone" else -signal.SIGTERM
            code = self._watch(self._start(master, log))
            if self.plan.nodes > 1 or self.plan.port is not None or not code or self.cause:
                break
            with open(self.log, "rb") as stream:
                stream.seek(begin)
                taken = PORT_TAKEN.search(stream.read().decode(errors="replace"))
            if not taken or start == STARTS:
                break
        return begin, code

    def _meet(self) -> NodeAddress | None:
        """Node 0, once it is there; None where this node is to end before."""
        port = (self.plan.port or free_port()) if self.number == 0 else 0
        own = NodeAddress(node=self.number, host=own_address(), port=port, pid=os.getpid(), at=time.time())
        write_text(address_path(self.plan.attempt_dir, self.number), own.model_dump_json() + "\n")
        deadline = time.monotonic() + self.plan.patience
        while not all(read_address(self.plan.attempt_dir, node) for node in range(self.plan.nodes)):
            if self._is_to_stop():
                return None
            if time.monotonic() > deadline:
                self._stop("alone")
                return None
            time.sleep(TICK)
        return read_address(self.plan.attempt_dir, 0)

    def _start(self, master: NodeAddress, log: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - the launcher's command, no shell
            [sys.executable, *self._arguments(master)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, LEADER_VARIABLE: str(os.getpid())},
            preexec_fn=die_with_parent,
        )

    def _arguments(self, master: NodeAddress) -> tuple[str, ...]:
        """Under torchrun each rank has a log of its own, both its streams in the order in which it wrote them; what
        all of them say goes to the node's log too, line by line behind the rank's name."""
        plan = self.plan
        if not plan.ranks:
            return plan.command
        several = plan.ranks * plan.nodes > 1
        together = ("--tee", "1", "--log-dir", str(rank_logs(plan.attempt_dir, self.number))) if several else ()
        return (
            *("-m", "torch.distributed.run", "--max-restarts", "0"),
            *("--nnodes", str(plan.nodes), "--node-rank", str(self.number), "--nproc-per-node", str(plan.ranks)),
            *("--master-addr", master.host, "--master-port", str(master.port)),
            *together,
            # exec: the rank keeps its process, which torchrun signals and which dies with torchrun.
            *("--no-python", "sh", "-c", 'exec "$@" 2>&1', "sh", sys.executable, *plan.command),
        )

    def _watch(self, process: subprocess.Popen[bytes]) -> int:
        deadline: float | None = None
        while (code := process.poll()) is None:
            if deadline is None and self._is_to_stop():
                _tell(process, bool(self.plan.ranks))
                deadline = time.monotonic() + GRACE
            if deadline is not None and time.monotonic() > deadline:
                process.kill()  # its ranks die with it
            time.sleep(TICK)
        return code

    def _is_to_stop(self) -> bool:
        if self.cause is None:
            for cause, holds in self._reasons():
                if holds():
                    self._stop(cause)
                    break
        return self.cause is not None

    def _reasons(self) -> tuple[tuple[NodeCause, Callable[[], bool]], ...]:
        return (
            ("spot", self._spot.is_set),
            ("signal", self._told.is_set),
            ("deadline", lambda: self.plan.seconds is not None and time.monotonic() - self.began > self.plan.seconds),
            ("followed", self._another_ended),
        )

    def _another_ended(self) -> bool:
        if self.plan.nodes == 1 or time.monotonic() - self._looked < LOOK_EVERY:
            return False
        self._looked = time.monotonic()
        return first_end_path(self.plan.attempt_dir).exists()

    def _stop(self, cause: NodeCause) -> None:
        self.cause = cause
        if cause != "followed":
            self._leave_word(cause)

    def _leave_word(self, cause: NodeCause) -> None:
        first = FirstEnd(node=self.number, cause=cause, at=time.time())
        write_once(first_end_path(self.plan.attempt_dir), first)

    def _ended(self, begin: int, code: int) -> int:
        if code and self.cause is None:
            self._leave_word("exit")
        cause = "exit" if code == 0 or self.cause is None else self.cause
        oom = oom_kills().since(self._kills) if code else ""
        end = NodeEnd(node=self.number, exit_code=code, cause=cause, at=time.time(), oom=oom, log_begin=begin)
        write_text(end_path(self.plan.attempt_dir, self.number), end.model_dump_json() + "\n")
        if code:
            leave_failure(self.plan.attempt_dir, f"node {self.number} of {self.plan.nodes} ended: {cause}, {code}")
        return code if code >= 0 else 128 - code

    def _watch_spot(self) -> None:
        while not is_to_be_lost():
            time.sleep(SPOT_EVERY)
        self._spot.set()


def _tell(leader: subprocess.Popen[bytes], torchrun: bool) -> None:
    """SIGTERM to the leader, or where that is ``torchrun`` to its ranks.

    torchrun's handler raises wherever torchrun is: where that is in waiting for a process a lock stays taken, so that
    it sees no rank end and gives up only after a minute.
    """
    with contextlib.suppress(psutil.NoSuchProcess):
        ranks = psutil.Process(leader.pid).children() if torchrun else []
        for rank in ranks:
            with contextlib.suppress(psutil.NoSuchProcess):
                rank.terminate()
        if ranks:
            return
    leader.terminate()


class Echo:
    """Repeats what is added to a log, from ``begin`` on, on standard output."""

    def __init__(self, log: Path, begin: int) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._repeat, args=(log, begin), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        self._ended.set()
        self._thread.join()

    def _repeat(self, log: Path, begin: int) -> None:
        with open(log, "rb") as stream:
            stream.seek(begin)
            while True:
                last = self._ended.wait(TICK)  # asked before reading: what came before the end is read after it
                sys.stdout.buffer.write(stream.read())
                sys.stdout.buffer.flush()
                if last:
                    return
