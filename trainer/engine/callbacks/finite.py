"""Stops a run whose loss or gradients are no longer finite, before anything of it is saved."""

from trainer.engine.callbacks.gate import Gate
from trainer.engine.loop import GateFailed, Trainer


class NotFinite(GateFailed):
    """The loss or the gradient's norm is NaN or infinite."""


class FiniteGuard(Gate):
    """Looks at the step's device-side flag every ``every`` steps, and before each checkpoint and evaluation."""

    name = "finite"

    def __init__(self, every: int) -> None:
        self.every = every

    def after_step(self, trainer: Trainer) -> None:
        if trainer.progress.global_step % self.every == 0:
            self._look(trainer)

    def before_save(self, trainer: Trainer) -> None:
        self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        step = trainer.progress.global_step
        if bool(trainer.step.finite):  # the same on all ranks: the gradients are
            self.conclude(True, f"loss and gradients were finite in all {step} steps", figures={"steps": step})
            return
        losses = ", ".join(f"{name} {float(value):.4g}" for name, value in trainer.last_losses.items())
        self.conclude(
            False,
            f"loss or gradients are not finite within the {self.every} steps up to step {step} "
            f"(losses now: {losses}). Nothing was saved since the last checkpoint. "
            "Lower optim.lr or optim.clip_norm, lengthen optim.warmup_steps, or look at the newest data.",
            figures={"steps": step},
            error=NotFinite,
        )
