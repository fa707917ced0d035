"""What a training minimises: the network, each task's loss, and how the losses become one."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from trainer.contract.train_config import Balancing, TrainConfig
from trainer.data.loader import Batch
from trainer.models.hydranet import IMAGE, HydraNet, of_task
from trainer.tasks import Task

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
TOTAL = "total"


class Objective(nn.Module):
    """``forward(batch)`` → the loss of each task in order and, last, their total: a vector of ``len(tasks) + 1``.

    Under mixed precision the network runs in the lower one, the losses in fp32.
    """

    def __init__(self, model: HydraNet, tasks: Sequence[Task], config: TrainConfig, device: torch.device) -> None:
        super().__init__()
        self.model = model
        self.balancer = balancer_of(config.balancing, {task.name: task.weight for task in tasks})
        self.tasks, self.device_type = tasks, device.type
        self.precision = AUTOCAST[config.training.precision]
        self.layout = torch.channels_last if config.training.channels_last else torch.contiguous_format
        self.to(device)
        self.model.to(memory_format=self.layout)  # type: ignore[call-overload]

    @property
    def names(self) -> tuple[str, ...]:
        return (*(task.name for task in self.tasks), TOTAL)

    def forward(self, batch: Batch) -> torch.Tensor:
        with torch.autocast(self.device_type, self.precision, enabled=self.precision is not None):
            outputs = self.model(self._given(batch))
        outputs = {name: output.float() for name, output in outputs.items()}
        losses = torch.stack([task.loss(of_task(outputs, task.name), of_task(batch, task.name)) for task in self.tasks])
        return torch.cat([losses, self.balancer(losses)[None]])

    def _given(self, batch: Batch) -> Batch:
        given = {name: batch[name] for name in self.model.inputs}
        if IMAGE in given:
            given[IMAGE] = given[IMAGE].contiguous(memory_format=self.layout)
        return given


class Balancer(nn.Module):
    """Fixed weights: the total is the sum of each loss times its task's weight and its curriculum factor."""

    weights: torch.Tensor

    def __init__(self, balancing: Balancing, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.balancing, self.fixed = balancing, dict(weights)
        self.register_buffer("weights", torch.tensor(list(weights.values())), persistent=False)

    def start_epoch(self, epoch: int, earlier: Sequence[Mapping[str, float]]) -> None:
        """Set the weights of ``epoch`` (from 0) from the mean losses of the epochs before it."""
        factors = self._factors(epoch, earlier)
        self.weights.copy_(torch.tensor([self.fixed[name] * factors[name] for name in self.fixed]))

    def forward(self, losses: torch.Tensor) -> torch.Tensor:
        return (losses * self.weights).sum()

    def _factors(self, epoch: int, earlier: Sequence[Mapping[str, float]]) -> dict[str, float]:
        factors = dict.fromkeys(self.fixed, 1.0)
        for stage in sorted(self.balancing.curriculum, key=lambda stage: stage.epoch):
            if stage.epoch <= epoch:
                factors |= stage.factors
        return factors


class Uncertainty(Balancer):
    """Learned weights: ``Σ w (exp(-s) L + s)`` with a trained ``s`` = log σ² for each task.

    Kendall, Gal and Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, CVPR 2018 (their eq. 10, doubled).
    """

    def __init__(self, balancing: Balancing, weights: Mapping[str, float]) -> None:
        super().__init__(balancing, weights)
        self.log_variance = nn.Parameter(torch.zeros(len(weights)))

    def forward(self, losses: torch.Tensor) -> torch.Tensor:
        return (self.weights * (torch.exp(-self.log_variance) * losses + self.log_variance)).sum()


class DynamicWeightAverage(Balancer):
    """Weights by how slowly a loss falls: ``K softmax(r / T)`` with ``r = L(t-1) / L(t-2)``, equal in two epochs.

    Liu, Johns and Davison, End-to-End Multi-Task Learning with Attention, CVPR 2019, section 3.2.
    """

    def _factors(self, epoch: int, earlier: Sequence[Mapping[str, float]]) -> dict[str, float]:
        factors = super()._factors(epoch, earlier)
        if len(earlier) < 2:
            return factors
        last, before = earlier[-1], earlier[-2]
        ratios = torch.tensor([last[name] / max(before[name], 1e-12) for name in self.fixed], dtype=torch.float64)
        dynamic = len(self.fixed) * torch.softmax(ratios / self.balancing.temperature, dim=0)
        return {name: factors[name] * float(value) for name, value in zip(self.fixed, dynamic, strict=True)}


def balancer_of(balancing: Balancing, weights: Mapping[str, float]) -> Balancer:
    classes = {"fixed": Balancer, "uncertainty": Uncertainty, "dwa": DynamicWeightAverage}
    return classes[balancing.method](balancing, weights)
