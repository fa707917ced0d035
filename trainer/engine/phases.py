"""Where the training thread's time goes, phase by phase and step by step."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from trainer.contract.telemetry import PHASES


class Event(Protocol):
    """A moment on the device's own time line, as ``torch.cuda.Event`` has it."""

    def query(self) -> bool: ...

    def elapsed_time(self, end_event: Any, /) -> float:
        """Milliseconds from this event to ``end_event``."""


@dataclass
class Row:
    """One step: from the wait for its batch to the wait for the next one's.

    ``seconds`` is the host's time by phase, ``ended`` its ``perf_counter``; ``moments`` are, on a sampled step, the
    device's moments at the ends of the phases, the first one at the step's beginning.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    ended: float = 0.0
    moments: list[tuple[str, Event]] = field(default_factory=list)


class Phases:
    """A stopwatch that always runs: each ``mark`` gives the time since the one before to a phase.

    ``data_wait`` is a step's first phase and ends the step before. Finished steps go to ``collect``'s receiver.
    """

    def __init__(self) -> None:
        self._row, self._steps, self._last = Row(), 0, time.perf_counter()
        self._receive: Callable[[Row], None] | None = None
        self._record: Callable[[], Event] | None = None
        self._sample_every = 1
        self._latest: tuple[str, Event] | None = None

    def collect(
        self, receive: Callable[[Row], None], record: Callable[[], Event] | None = None, sample_every: int = 1
    ) -> None:
        """Give each finished step to ``receive``; ``record`` makes an event on the device, used every so many steps."""
        self._receive, self._record, self._sample_every = receive, record, sample_every

    def start(self) -> None:
        """Begin to count now, with a new step."""
        self._row, self._last = Row(), time.perf_counter()

    @staticmethod
    def now() -> float:
        return time.perf_counter()

    def mark(self, phase: str) -> None:
        now = time.perf_counter()
        if phase == "data_wait":
            self._finish_row()
        self._row.seconds[phase] += now - self._last
        self._row.ended = self._last = now
        if self._record is not None and self._recording():
            self._moment(phase, self._record())

    def finish(self) -> None:
        """End the last step: no other batch follows."""
        self._finish_row()

    def _finish_row(self) -> None:
        if not self._row.ended:
            return  # nothing was measured since the start
        if self._receive is not None:
            self._receive(self._row)
        self._row, self._steps = Row(), self._steps + 1
        if self._latest is not None and self._sampled():
            self._row.moments.append(self._latest)

    def _moment(self, phase: str, event: Event) -> None:
        self._latest = (phase, event)
        if self._sampled():
            self._row.moments.append(self._latest)

    def _sampled(self) -> bool:
        return (self._steps + 1) % self._sample_every == 0

    def _recording(self) -> bool:
        # The last moment of the step before is the sampled step's beginning, and nobody knows that it is the last.
        return self._sampled() or (self._steps + 2) % self._sample_every == 0
