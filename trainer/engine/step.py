"""One optimisation step: forward, each task's loss, backward, clip, update."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from trainer.contract.train_config import Optim
from trainer.data.loader import Batch
from trainer.engine.phases import Phases
from trainer.models.hydranet import of_task
from trainer.tasks import Task


def learning_rate(optim: Optim, step: int, total_steps: int) -> float:
    """Linear warm-up to ``optim.lr``, then half a cosine down to zero at ``total_steps``."""
    if step < optim.warmup_steps:
        return optim.lr * (step + 1) / optim.warmup_steps
    progress = (step - optim.warmup_steps) / max(1, total_steps - optim.warmup_steps)
    return optim.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def build_optimizer(model: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """AdamW; biases and norms (one-dimensional parameters) are not decayed (He et al., Bag of Tricks, 2018)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=optim.lr)


class TrainStep:
    """Called with a batch on the device; returns each loss, detached and still on the device.

    ``finite`` (a boolean on the device) turns false with the first loss or gradient norm that is not finite, and
    from then on the parameters no longer move: the host may look at it whenever it likes.
    """

    def __init__(
        self, model: nn.Module, tasks: Sequence[Task], optimizer: torch.optim.Optimizer, optim: Optim, total_steps: int
    ) -> None:
        self.model, self.tasks, self.optimizer = model, tasks, optimizer
        self.optim, self.total_steps = optim, total_steps
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.phases = Phases()
        self.finite = torch.ones((), dtype=torch.bool, device=self.parameters[0].device)

    def __call__(self, batch: Batch, global_step: int) -> dict[str, torch.Tensor]:
        losses = self.losses(self.model, batch)
        self.phases.mark("forward")
        self.optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        self.phases.mark("backward")
        norm = nn.utils.clip_grad_norm_(self.parameters, self.optim.clip_norm)
        self.finite &= torch.isfinite(norm) & torch.isfinite(losses["total"].detach())
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.optim, global_step, self.total_steps)
        self._update()
        self.phases.mark("optimizer")
        return {name: loss.detach() for name, loss in losses.items()}

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        """Each task's loss of ``model`` on ``batch``, and the weighted ``total`` to go backward from."""
        outputs = model(batch["image"])
        losses = {task.name: task.loss(of_task(outputs, task.name), of_task(batch, task.name)) for task in self.tasks}
        return losses | {"total": torch.stack([losses[task.name] * task.weight for task in self.tasks]).sum()}

    def _update(self) -> None:
        # Without asking the device: gradients that are not finite become zeros and decay is the only movement;
        # the guard stops the run before anything of it is saved.
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad = torch.where(self.finite, parameter.grad, 0.0)
        self.optimizer.step()
