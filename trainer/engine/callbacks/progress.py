"""Tells people how far a run is: a line now and then within an epoch, one for each epoch."""

import time

from trainer.contract.results import Epoch, WarmStart
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
            if trainer.warm_start is not None:
                self.reporter.info(_told(trainer.warm_start))

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


def _told(warm: WarmStart) -> str:
    """What was taken over from other weights, and the names of what was not."""
    left = {"missing there": warm.missing, "unknown here": warm.unexpected, "of another shape": warm.other_shape}
    rest = "; ".join(f"{what}: {', '.join(names)}" for what, names in left.items() if names)
    return f"warm start: {warm.matched} tensors taken over from {warm.sha256[:12]}" + (f"; {rest}" if rest else ", all")
