"""When to save: every N steps and after each epoch."""

from trainer.contract.results import Epoch
from trainer.engine.loop import Callback, Trainer


class SaveCheckpoints(Callback):
    def __init__(self, every: int) -> None:
        self.every = every

    def after_step(self, trainer: Trainer) -> None:
        # After an epoch's last step comes the checkpoint of the epoch's end.
        within = trainer.progress.step_in_epoch < trainer.order.steps_per_epoch
        if within and trainer.progress.global_step % self.every == 0:
            trainer.save()

    def after_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        trainer.save()
