"""Keeps each rank's last step where it can be read after the rank was killed."""

from pathlib import Path

from trainer.contract import attempts
from trainer.data.loader import Batch
from trainer.engine.loop import Callback, Trainer


class Heartbeat(Callback):
    """Writes the step that this rank began and finished last into the attempt's directory; asks no device."""

    def __init__(self, run_dir: Path, rank: int) -> None:
        self._heart = attempts.Heartbeat(attempts.attempt_dir(run_dir), rank)

    def before_training(self, trainer: Trainer) -> None:
        self._heart.beat(trainer.progress.global_step, trainer.progress.global_step)

    def before_step(self, trainer: Trainer, batch: Batch) -> None:
        self._heart.beat(trainer.progress.global_step + 1, trainer.progress.global_step)

    def after_step(self, trainer: Trainer) -> None:
        self._heart.beat(trainer.progress.global_step, trainer.progress.global_step)
