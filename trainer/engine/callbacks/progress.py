"""Tells people how far a run is: a line now and then within an epoch, one for each epoch."""

import time

from trainer.contract.results import Epoch
from trainer.engine.loop import Callback, Trainer
from trainer.reporting import Reporter

INTERVAL_S = 5.0


class Progress(Callback):
    """Reports on the leading rank only."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter, self.last = reporter, time.monotonic()

    def before_training(self, trainer: Trainer) -> None:
        if trainer.ranks.leads:
            start = f"from step {trainer.progress.global_step}" if trainer.resumed_from else "from the beginning"
            self.reporter.info(
                f"training {trainer.config.name} {start}: {trainer.order.size} samples, {trainer.total_steps} steps of "
                f"{trainer.config.data.batch_size} on {trainer.ranks.world_size} × {trainer.ranks.device.type}"
            )

    def after_step(self, trainer: Trainer) -> None:
        if trainer.ranks.leads and time.monotonic() - self.last > INTERVAL_S:
            self.last = time.monotonic()
            step, total = trainer.progress.global_step, trainer.total_steps
            losses = "  ".join(f"{name} {float(value):.4f}" for name, value in trainer.last_losses.items())
            self.reporter.line(f"  step {step}/{total} ({step / total:.0%})  loss: {losses}")

    def after_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        if trainer.ranks.leads:
            losses = "  ".join(f"{name} {value:.4f}" for name, value in epoch.losses.items())
            headlines = [f"{task.name}/{name}" for task in trainer.tasks for name in task.headlines]
            values = {name: epoch.metrics.get(name) for name in headlines}
            metrics = "  ".join(f"{name} {value:.4f}" for name, value in values.items() if value is not None)
            self.reporter.info(
                f"epoch {epoch.epoch + 1}/{trainer.config.training.epochs}  loss: {losses}"
                + (f"  val: {metrics}" if metrics else "")
            )
