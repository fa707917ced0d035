"""What every launcher takes and gives: a specification, a handle, a status. No backend is known here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

BAD_INPUT = 2
"""Exit code of a trainer command that refused its input; the report is on stderr."""

GATE_FAILED = 3
"""Exit code of a training that a gate inside it ended; ``failure.json`` has the gate's verdict."""

STOPPED = 75
"""Exit code of a training that was asked to stop and saved a checkpoint (``EX_TEMPFAIL``)."""

State = Literal["running", "succeeded", "failed", "interrupted"]


@dataclass(frozen=True)
class LaunchSpec:
    """``python -m <module> <arguments>``, on ``processes`` ranks when it is distributed (None: one for each GPU).

    A run has one ``run_dir``; each try of it has an ``attempt`` of its own, which names its log.
    """

    arguments: tuple[str, ...]
    run_dir: Path
    attempt: str
    module: str = "trainer"
    distributed: bool = False
    processes: int | None = 1
    threads: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

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
    """Where an attempt stands. ``exit_code`` is that of the rank that failed first."""

    state: State
    exit_code: int | None = None
    reason: str = ""


class Launcher(Protocol):
    """One backend."""

    def launch(self, spec: LaunchSpec) -> Handle:
        """Start ``spec``; returns as soon as it is started."""
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
