"""When to save: every N steps, after each epoch, and when the host asks the run to stop."""

import signal
from typing import Any

from trainer.contract.results import Epoch
from trainer.engine.loop import Callback, Trainer

STOPPED = 75
"""Exit code of a run that saved and stopped because it was told to (BSD's EX_TEMPFAIL: try again)."""


class Stop(Exception):
    """Ends the run in an orderly way, with the exit code that tells why."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class SaveCheckpoints(Callback):
    def __init__(self, every: int) -> None:
        self.every = every

    def after_step(self, trainer: Trainer) -> None:
        if trainer.progress.global_step % self.every == 0:
            trainer.save()

    def after_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        trainer.save()


class StopOnSignal(Callback):
    """On SIGTERM (a spot notice, a cancelled run) all ranks agree on a step, save, and stop with code 75."""

    def __init__(self) -> None:
        self.asked = False

    def before_training(self, trainer: Trainer) -> None:
        signal.signal(signal.SIGTERM, self._ask)

    def after_step(self, trainer: Trainer) -> None:
        if trainer.ranks.any(self.asked):
            trainer.save()
            raise Stop(f"stopped by SIGTERM after step {trainer.progress.global_step}, checkpoint saved", STOPPED)

    def _ask(self, *_: Any) -> None:
        self.asked = True
