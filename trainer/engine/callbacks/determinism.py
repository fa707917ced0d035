"""Two short runs from the same state and seed must see the same losses."""

import math

import torch
from torch import nn

from trainer.contract.train_config import Determinism as DeterminismConfig
from trainer.data.loader import Batch
from trainer.engine.callbacks.gate import Gate, first_samples, rehearsal
from trainer.engine.loop import Trainer


class Determinism(Gate):
    """Compares the losses, step by step, at the start of a run; the training's state stays as it is.

    The short runs descend along the clipped gradient without the optimizer, whose state so needs no copy, and each
    rank on its own.
    """

    name = "determinism"

    def __init__(self, config: DeterminismConfig) -> None:
        self.config = config

    def before_step(self, trainer: Trainer, batch: Batch) -> None:
        if trainer.progress.global_step:
            return
        few = first_samples(batch, self.config.samples)
        own = relative_differences(self._short_run(trainer, few), self._short_run(trainer, few))
        parts = trainer.ranks.gather(own)
        worst = {name: max(part[name] for part in parts) for name in own}
        outside = [f"{name} by {value:.3g}" for name, value in worst.items() if not value <= self.config.tolerance]
        told = f"two runs of {self.config.steps} steps from the same state"
        message = (
            f"{told} differ in the losses of {', '.join(outside)} (relative; guards.determinism.tolerance is "
            f"{self.config.tolerance:g}): an operation of the model or a loss is not deterministic on "
            f"{trainer.ranks.device}, or the device computes wrongly"
            if outside
            else f"{told} agree within {self.config.tolerance:g}"
        )
        figures = {f"difference/{name}": value for name, value in worst.items()}
        self.conclude(not outside, message, severity=self.config.on_failure, figures=figures)

    def _short_run(self, trainer: Trainer, batch: Batch) -> dict[str, list[float]]:
        """The loss of each step by name."""
        optim, objective, seen = trainer.config.optim, trainer.learner.objective, list[torch.Tensor]()
        with rehearsal(trainer, moves=True) as parameters:
            torch.manual_seed(trainer.config.seed)
            for _ in range(self.config.steps):
                losses = objective(batch)
                losses[-1].backward()
                nn.utils.clip_grad_norm_(parameters, optim.clip_norm)
                _descend(parameters, optim.lr)
                seen.append(losses.detach())
            return dict(zip(objective.names, torch.stack(seen, dim=1).tolist(), strict=True))


@torch.no_grad()
def _descend(parameters: list[nn.Parameter], rate: float) -> None:
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.sub_(parameter.grad, alpha=rate)
            parameter.grad = None


def relative_differences(first: dict[str, list[float]], second: dict[str, list[float]]) -> dict[str, float]:
    """The largest ``|a - b| / max(|a|, |b|)`` of each series; the same infinity or NaN twice is no difference."""
    return {name: max(map(_difference, first[name], second[name])) for name in first}


def _difference(a: float, b: float) -> float:
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    return abs(a - b) / max(abs(a), abs(b)) if math.isfinite(a) and math.isfinite(b) else math.inf
