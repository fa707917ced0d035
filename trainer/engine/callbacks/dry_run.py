"""One forward and backward pass before anything moves: finite losses, a gradient everywhere, memory that suffices."""

import torch

from trainer.contract.fitting import memory_advice, memory_ran_out
from trainer.contract.train_config import DryRun as DryRunConfig
from trainer.data.loader import Batch, batch_length
from trainer.engine.callbacks.gate import Gate, first_samples, rehearsal
from trainer.engine.loop import GateFailed, Trainer
from trainer.engine.strategies import whole_tensor

SHOWN = 5
MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""How CUDA's and the CPU's allocators say it."""


class DoesNotFit(GateFailed):
    """One step needs more memory than there is."""


class DryRun(Gate):
    """Rehearses the first batch of every start, on a new machine too; the training's state stays as it is."""

    name = "dry_run"

    def __init__(self, config: DryRunConfig) -> None:
        self.config, self.rehearsed = config, False

    def before_step(self, trainer: Trainer, batch: Batch) -> None:
        if self.rehearsed:
            return
        self.rehearsed = True
        try:
            losses, problems = self._rehearse(trainer, batch)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_memory(error):
                raise
            # Without asking the other ranks: they may wait in the middle of the pass.
            self.conclude(False, f"rank {trainer.ranks.rank}: {_advice(trainer, error)}", error=DoesNotFit)
            return
        parts = trainer.ranks.gather((losses, problems))
        told = [f"rank {rank}: {problem}" for rank, (_, own) in enumerate(parts) for problem in own]
        means = {f"loss/{name}": sum(own[name] for own, _ in parts) / len(parts) for name in losses}
        fine = "every loss is finite and every trainable parameter gets a finite gradient"
        self.conclude(not told, "; ".join(told) or fine, figures=means)

    def _rehearse(self, trainer: Trainer, batch: Batch) -> tuple[dict[str, float], list[str]]:
        # What is computed at once in training, no more.
        part = max(1, batch_length(batch) // trainer.config.optim.accumulate)
        with rehearsal(trainer):
            objective = trainer.learner.objective
            losses = objective(first_samples(batch, part))
            losses[-1].backward()
            values = dict(zip(objective.names, losses.tolist(), strict=True))
            return values, [*self._bad_losses(values), *_bad_gradients(objective)]

    def _bad_losses(self, values: dict[str, float]) -> list[str]:
        tasks = {name: value for name, value in values.items() if name != "total"}
        return [
            f"the loss of {name} is {value:.4g} on the first batch, expected a number up to {self.config.max_loss:g} "
            "(guards.dry_run.max_loss): look at its labels and its weight"
            for name, value in tasks.items()
            if not abs(value) <= self.config.max_loss
        ]


def _bad_gradients(model: torch.nn.Module) -> list[str]:
    trainable = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    missing = [name for name, gradient in trainable.items() if gradient is None]
    broken = [name for name, gradient in trainable.items() if gradient is not None and not _finite(gradient)]
    return [
        f"{len(names)} of {len(trainable)} trainable parameters {what}: {', '.join(names[:SHOWN])}"
        + (", …" if len(names) > SHOWN else "")
        for names, what in ((missing, "get no gradient from any loss"), (broken, "get a gradient that is not finite"))
        if names
    ]


def _finite(gradient: torch.Tensor) -> bool:
    return bool(torch.isfinite(whole_tensor(gradient)).all())


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in MEMORY)


def _advice(trainer: Trainer, error: BaseException) -> str:
    line, host = str(error).splitlines()[0], trainer.ranks.device.type == "cpu"
    return f"one step does not fit: {memory_ran_out(line, host)} {memory_advice(trainer.config, host)}"
