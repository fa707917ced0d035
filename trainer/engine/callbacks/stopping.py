"""What ends a run from outside: a signal of the host, the wall clock. All ranks agree on the step."""

import signal
import time
from typing import Any

from trainer.contract.exit_codes import STOPPED
from trainer.contract.results import Epoch, TrainResult
from trainer.engine.loop import Callback, Trainer

OVER = "max_run_seconds"
"""The reason of a run that came to its wall."""


class Stop(Exception):
    """Ends the run in an orderly way, with the exit code that tells why."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Stopping(Callback):
    """On SIGTERM (a spot notice, a cancelled run) the ranks save and stop with code 75: the run can be resumed.

    After ``max_run_seconds`` of training, all attempts together, they save and the run ends as a finished one. Each
    step asks whether any rank wants to stop and hears what was asked a step before, so that nobody waits.
    """

    name = "stopping"

    def __init__(self, max_run_seconds: float | None) -> None:
        self.max_run_seconds = max_run_seconds
        self.asked, self.seconds_before, self.began = False, 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.began

    def before_training(self, trainer: Trainer) -> None:
        signal.signal(signal.SIGTERM, self._ask)
        self.began = time.monotonic()
        if trainer.progress.stop_reason == OVER and not self._is_over():
            trainer.progress.stop_reason = None  # the wall was moved

    def after_training(self, trainer: Trainer) -> None:
        trainer.ranks.settle()

    def after_step(self, trainer: Trainer) -> None:
        self._agree(trainer)

    def after_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        # An evaluation may have taken long; with a single step an epoch nobody else would ask.
        self._agree(trainer)

    def at_end(self, trainer: Trainer) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seconds_before = state["seconds"]

    def added_to(self, result: TrainResult) -> TrainResult:
        return result.model_copy(update={"run_seconds": self.seconds})

    def _agree(self, trainer: Trainer) -> None:
        signalled, over = trainer.ranks.agreed([self.asked, self._is_over()])
        if signalled:
            trainer.ranks.settle()
            trainer.save()
            trainer.checkpointer.wait()
            raise Stop(f"stopped by SIGTERM after step {trainer.progress.global_step}, checkpoint saved", STOPPED)
        if over and trainer.progress.stop_reason is None:
            trainer.finish(OVER)
            trainer.save()

    def _is_over(self) -> bool:
        return self.max_run_seconds is not None and self.seconds > self.max_run_seconds

    def _ask(self, *_: Any) -> None:
        self.asked = True
