"""What every launcher takes and gives: a specification, a handle, a status. No backend is known here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from trainer.contract.results import FailureKind
from trainer.contract.train_config import Launch

DEADLINE_GRACE = 600.0
"""Seconds beyond ``launch.max_run_seconds`` in which a training can start, and evaluate and save at its end."""

State = Literal["running", "succeeded", "failed", "interrupted", "deadline"]


@dataclass(frozen=True)
class LaunchSpec:
    """``python -m <module> <arguments>``: one process, or with ``launch`` the ranks that it asks for.

    A run has one ``run_dir``; each try of it has an ``attempt`` of its own, which names its log. ``port`` is the
    ranks' master port (None: a free one); ``threads`` are the CPU threads of a single process.
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

    @property
    def distributed(self) -> bool:
        """Whether torchrun starts the ranks; with ``ddp_fork`` the one process does it itself."""
        return self.launch is not None and self.launch.strategy != "ddp_fork"

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
        return self.run_dir / "attempts" / f"{self.attempt}.log"


@dataclass(frozen=True)
class Handle:
    """A launched attempt. ``id`` is the backend's name for it, here the process id."""

    id: str
    spec: LaunchSpec
    started_at: float


@dataclass(frozen=True)
class Status:
    """Where an attempt stands. ``exit_code`` is that of the rank that failed first.

    Of a failure, ``reason`` says in which rank, after which step, why, and what to do; ``kind`` decides whether it
    is tried again; ``log`` has the last lines of the rank that failed.
    """

    state: State
    exit_code: int | None = None
    reason: str = ""
    kind: FailureKind | None = None
    log: Path | None = None


class Launcher(Protocol):
    """One backend."""

    def launch(self, spec: LaunchSpec) -> Handle:
        """Start ``spec``; returns as soon as it is started.

        Raises:
            ContractError: this backend cannot run it.
        """
        ...

    def poll(self, handle: Handle) -> Status:
        """Where it stands, without waiting."""
        ...

    def logs(self, handle: Handle, offset: int = 0) -> tuple[str, int]:
        """Everything logged after ``offset``, whole lines only while it runs, and the next offset."""
        ...

    def stop(self, handle: Handle) -> None:
        """End it and everything it started; returns when nothing is left. Stopping twice is fine."""
        ...
