"""What every launcher takes and gives: a specification, a handle, a status. No backend is known here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from trainer.contract import nodes
from trainer.contract.errors import Problem
from trainer.contract.results import FailureKind
from trainer.contract.train_config import Launch

DEADLINE_GRACE = 600.0
"""Seconds beyond ``launch.max_run_seconds`` in which a training can start, and evaluate and save at its end."""

State = Literal["running", "succeeded", "failed", "interrupted", "deadline"]


@dataclass(frozen=True)
class LaunchSpec:
    """``python -m <module> <arguments>``: one process, or with ``launch`` the ranks that it asks for.

    A run has one ``run_dir``; each try of it has an ``attempt`` of its own, which names its log. ``port`` is the
    ranks' master port (None: a free one); ``threads`` are the CPU threads of a single process. ``project`` is what
    the money is spent on.
    """

    arguments: tuple[str, ...]
    run_dir: Path
    attempt: str
    module: str = "trainer"
    launch: Launch | None = None
    threads: int = 1
    port: int | None = None
    deadline_grace: float = DEADLINE_GRACE
    environment: Mapping[str, str] = field(default_factory=dict)
    project: str = ""

    @property
    def distributed(self) -> bool:
        """Whether torchrun starts the ranks; with ``ddp_fork`` the one process does it itself."""
        return self.launch is not None and self.launch.strategy != "ddp_fork"

    @property
    def nodes(self) -> int:
        return self.launch.num_nodes if self.launch else 1

    @property
    def deadline(self) -> float | None:
        """Seconds after which an attempt that has not ended by itself hangs."""
        limit = self.launch.max_run_seconds if self.launch else None
        return None if limit is None else limit + self.deadline_grace

    @property
    def what(self) -> str:
        """What is launched, in a word: ``train``."""
        return self.arguments[0] if self.arguments else self.module

    @property
    def attempt_dir(self) -> Path:
        """What belongs to this attempt alone, besides its log."""
        return self.run_dir / "attempts" / self.attempt

    @property
    def log(self) -> Path:
        return self.log_of(0)

    def log_of(self, node: int) -> Path:
        return nodes.node_log(self.attempt_dir, node)


@dataclass(frozen=True)
class Handle:
    """A launched attempt: what is needed to watch and end it, also from another process.

    ``id`` is the backend's name for it, ``nodes`` its names for the nodes where they have any of their own;
    ``started_at`` in seconds since 1970.
    """

    id: str
    spec: LaunchSpec
    started_at: float
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Status:
    """Where an attempt stands. ``exit_code`` is that of the rank that failed first.

    Of a failure, ``reason`` says in which rank, after which step, why, and what to do; ``kind`` decides whether it
    is tried again; ``log`` has the last lines of the rank that failed. Of a running one, ``waits_for`` says what it
    waits for before it can begin, if for anything.
    """

    state: State
    exit_code: int | None = None
    reason: str = ""
    kind: FailureKind | None = None
    log: Path | None = None
    waits_for: str = ""


@dataclass(frozen=True)
class Estimate:
    """What an attempt costs: ``usd_per_hour`` of all its nodes together, None where no price is known."""

    instance_type: str
    nodes: int
    gpus: int
    usd_per_hour: float | None

    def gpu_hours(self, seconds: float) -> float:
        return self.gpus * seconds / 3600

    def cost(self, seconds: float) -> float | None:
        """US dollars for so many seconds."""
        return None if self.usd_per_hour is None else self.usd_per_hour * seconds / 3600


class Launcher(Protocol):
    """One backend, ``name`` in profiles. ``poll_seconds`` is how often it is asked where an attempt stands."""

    name: str
    poll_seconds: float

    def check(self) -> Sequence[Problem]:
        """What is missing before anything can be launched: asks the backend, starts nothing."""
        ...

    def estimate(self, spec: LaunchSpec) -> Estimate:
        """What ``spec`` would run on, and its price."""
        ...

    def launch(self, spec: LaunchSpec) -> Handle:
        """Start ``spec`` on all its nodes; returns as soon as it is started. Doing so twice starts it once.

        Raises:
            ContractError: this backend cannot run it.
            LaunchFailed: it did not start, and nothing of it is left.
        """
        ...

    def attach(self, handle: Handle) -> Handle | None:
        """``handle`` as kept by a process that is gone, for this one to go on with; None where the backend knows of
        no such attempt: it was never started.
        """
        ...

    def poll(self, handle: Handle) -> Status:
        """Where it stands, without waiting."""
        ...

    def logs(self, handle: Handle, offset: "Offset" = (), last: bool = False) -> "tuple[str, Offset]":
        """What all nodes logged after ``offset`` in whole lines, and the next offset; ``last``: all that is left."""
        ...

    def stop(self, handle: Handle) -> None:
        """End it and everything it started; returns when nothing is left. Stopping twice is fine."""
        ...

    def there(self, text: str) -> str:
        """A path in the store as the nodes know it."""
        ...

    def seconds_billed(self, handle: Handle) -> float | None:
        """What the backend charges for, where it says so itself."""
        ...


Offset = tuple[int, ...]
"""Where reading went to in the log of each node."""


class LaunchFailed(Exception):
    """An attempt that did not come about. ``status`` says why, as of one that ended."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.reason)
        self.status = status
