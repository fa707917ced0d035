"""Tells people how far a run is: a bar or now and then a line within an epoch, one for each epoch."""

import time

from trainer.contract.results import Epoch, WarmStart
from trainer.engine.loop import Callback, Trainer
from trainer.reporting import Reporter
from trainer.terminal.progress import Bar

LOOK_EVERY_S = 5.0
"""A bar is drawn more often than its losses are looked at: to read one the device has to be waited for."""


class Progress(Callback):
    """Reports on the leading rank only."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self._bar: Bar | None = None
        self._seen, self._at, self._note = 0, 0.0, ""

    def before_training(self, trainer: Trainer) -> None:
        if trainer.ranks.leads:
            start = f"from step {trainer.progress.global_step}" if trainer.resumed_from else "from the beginning"
            self.reporter.info(
                f"training {trainer.config.name} {start}: {trainer.order.size} samples, {trainer.total_steps} steps of "
                f"{trainer.config.data.batch_size} on {trainer.ranks.world_size} × {trainer.ranks.device.type}"
            )
            if trainer.warm_start is not None:
                self.reporter.info(_told(trainer.warm_start))
            self._bar = self.reporter.bar("step")
            self._seen, self._at = trainer.progress.global_step, time.monotonic()

    def after_step(self, trainer: Trainer) -> None:
        if self._bar is not None and self._bar.due:
            step, now = trainer.progress.global_step, time.monotonic()
            if not self._bar.draws or now - self._at >= LOOK_EVERY_S:
                pace = (step - self._seen) * trainer.config.data.batch_size / (now - self._at)
                self._seen, self._at = step, now
                losses = "  ".join(f"{name} {float(value):.4f}" for name, value in trainer.last_losses.items())
                self._note = f"{pace:.1f} samples/s  loss: {losses}"
            self._bar(step, trainer.total_steps, self._note)

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

    def at_end(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.close()


def _told(warm: WarmStart) -> str:
    """What was taken over from other weights, and the names of what was not."""
    left = {"missing there": warm.missing, "unknown here": warm.unexpected, "of another shape": warm.other_shape}
    rest = "; ".join(f"{what}: {', '.join(names)}" for what, names in left.items() if names)
    return f"warm start: {warm.matched} tensors taken over from {warm.sha256[:12]}" + (f"; {rest}" if rest else ", all")
