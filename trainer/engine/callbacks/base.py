"""What a policy can hang on to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.contract.results import Epoch
    from trainer.engine.loop import Trainer


class Stop(Exception):
    """Raised by a callback to end the run in an orderly way, with the exit code that tells why."""

    def __init__(self, reason: str, exit_code: int) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Callback:
    """Does nothing at every point of the loop; a policy overrides the points that it needs.

    ``before_save`` comes before each checkpoint and at each end of an epoch, whose model may be kept as the best.
    """

    def before_training(self, trainer: Trainer) -> None: ...

    def after_step(self, trainer: Trainer) -> None: ...

    def before_save(self, trainer: Trainer) -> None: ...

    def after_epoch(self, trainer: Trainer, epoch: Epoch) -> None: ...
