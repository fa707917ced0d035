"""One optimisation step: forward, each task's loss, backward, clip, update."""

import math
from collections.abc import Callable

import torch
from torch import nn

from trainer.contract.train_config import Optim
from trainer.data.loader import Batch
from trainer.engine.ema import Ema
from trainer.engine.objective import Objective
from trainer.engine.phases import Phases
from trainer.engine.strategies import Strategy, whole_tensor

FP16_SKIPS = 20
"""So many updates in a row may overflow while fp16's loss scale finds its range; halved each time from 65536."""


def learning_rate(optim: Optim, step: int, total_steps: int) -> float:
    """Linear warm-up to ``optim.lr``, then the schedule's way down to zero at ``total_steps``."""
    if step < optim.warmup_steps:
        return optim.lr * (step + 1) / optim.warmup_steps
    done = min(1.0, (step - optim.warmup_steps) / max(1, total_steps - optim.warmup_steps))
    decay: dict[str, float] = {
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "poly": (1 - done) ** optim.poly_power,
        "constant": 1.0,
    }
    return optim.lr * decay[optim.schedule]


def build_optimizer(model: nn.Module, optim: Optim) -> torch.optim.AdamW:
    """AdamW; biases and norms (one-dimensional parameters) are not decayed (He et al., Bag of Tricks, 2018)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=optim.lr, fused=True)


class TrainStep:
    """Called with the rank's batch on the device; returns each loss (``Objective.names``), detached, on the device.

    ``finite`` (a boolean on the device, the same on all ranks) turns false with the first gradient norm that is not
    finite, with fp16 the ``FP16_SKIPS``-th in a row; from then on nothing moves, and the host may look at it when it
    likes. ``grad_norm`` is the last step's before clipping, on the device. ``before_update`` is called once the
    gradients stand and before any parameter moves.
    """

    def __init__(
        self,
        objective: Objective,
        strategy: Strategy,
        optim: Optim,
        total_steps: int,
        before_update: Callable[[], None] = lambda: None,
    ) -> None:
        # The strategy may replace parameters (by shards): what refers to them is built after it.
        self.module = strategy.wrap(objective)
        self.strategy, self.optim, self.total_steps, self.before_update = strategy, optim, total_steps, before_update
        self.optimizer = build_optimizer(objective, optim)
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.device = self.parameters[0].device
        self.ema = Ema(objective.model, optim.ema_decay) if optim.ema_decay is not None else None
        fp16 = objective.precision is torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=fp16)
        self.tolerated = FP16_SKIPS if fp16 else 0
        self.skipped = torch.zeros((), device=self.device)
        self.finite = torch.ones((), dtype=torch.bool, device=self.device)
        self.grad_norm = torch.zeros((), device=self.device)
        self.phases = Phases()
        self.rehearsed = False

    def __call__(self, batch: Batch, global_step: int) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._gradients(batch)
        self.scaler.unscale_(self.optimizer)
        self.grad_norm = norm = whole_tensor(nn.utils.clip_grad_norm_(self.parameters, self.optim.clip_norm))
        self.phases.mark("optimizer")
        self.before_update()
        self.phases.mark("checkpoint")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.optim, global_step, self.total_steps)
        self._update(norm)
        if self.ema is not None:
            self.ema.update(global_step)
        self.phases.mark("optimizer")
        return losses

    def _gradients(self, batch: Batch) -> torch.Tensor:
        """Gradients of the whole batch, computed in ``optim.accumulate`` parts and exchanged once."""
        count = self.optim.accumulate
        parts = [batch] if count == 1 else _split(batch, count)
        if not self.rehearsed:
            self.strategy.rehearse(self.module, parts[0])
            self.rehearsed = True
        losses = []
        for number, part in enumerate(parts, start=1):
            with self.strategy.exchange(self.module, number == count):
                loss = self.module(part)
                self.phases.mark("forward")
                self.scaler.scale(loss[-1] / count).backward()
                self.phases.mark("backward")
            losses.append(loss.detach())
        return losses[0] if count == 1 else torch.stack(losses).mean(dim=0)

    def _update(self, norm: torch.Tensor) -> None:
        # Nobody asks the device: the fused optimizer itself leaves everything as it is where found_inf is 1.
        bad = 1.0 - torch.isfinite(norm).float()
        self.skipped = (self.skipped + bad) * bad
        self.finite &= self.skipped <= self.tolerated
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.grad_scale, self.optimizer.found_inf = None, 1.0 - self.finite.float()  # type: ignore[attr-defined]
            self.optimizer.step()


def _split(batch: Batch, count: int) -> list[Batch]:
    chunks = {name: value.chunk(count) for name, value in batch.items()}
    return [{name: parts[number] for name, parts in chunks.items()} for number in range(count)]
