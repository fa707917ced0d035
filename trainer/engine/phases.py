"""Where the training thread's time goes, phase by phase."""

import time

PHASES = ("data_wait", "forward", "backward", "optimizer", "checkpoint", "callbacks", "evaluation")


class Phases:
    """A stopwatch that always runs: each ``mark`` gives the time since the one before to a phase.

    ``seconds`` are the sums since :meth:`take` was called last.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._last = time.perf_counter()

    @staticmethod
    def now() -> float:
        return time.perf_counter()

    def mark(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] += now - self._last
        self._last = now

    def take(self) -> dict[str, float]:
        """The seconds of each phase since the last call."""
        taken, self.seconds = self.seconds, dict.fromkeys(PHASES, 0.0)
        return taken
