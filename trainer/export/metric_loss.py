"""What an exported file loses: the tasks' own metrics of it and of eager, on the same samples."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from trainer.contract.metrics import gain
from trainer.contract.results import MetricLoss
from trainer.data.shards import ShardReader
from trainer.evaluation.evaluate import evaluate, score
from trainer.evaluation.model import Checkpoint
from trainer.export.passes import Run
from trainer.models.hydranet import Outputs


def metric_losses(
    checkpoint: Checkpoint, run: Run, outputs: Sequence[str], reader: ShardReader, indices: Sequence[int]
) -> dict[str, MetricLoss]:
    """Each task's headline metrics, with ``run`` in the place of the checkpoint's network and without.

    ``outputs`` names what ``run`` gives.
    """
    exported = _Network(run, checkpoint.model.inputs, outputs)
    eager, found = (_scores(checkpoint, model, reader, indices) for model in (checkpoint.model, exported))
    names = [f"{task.name}/{headline}" for task in checkpoint.tasks for headline in task.headlines]
    return {name: metric_loss(name, eager.get(name), found.get(name)) for name in names}


def metric_loss(name: str, eager: float | None, quantized: float | None) -> MetricLoss:
    """None where the metric is not defined for one of the two."""
    loss = None if eager is None or quantized is None else gain(name, eager, quantized)
    return MetricLoss(eager=eager, quantized=quantized, loss=loss)


def _scores(
    checkpoint: Checkpoint, model: nn.Module, reader: ShardReader, indices: Sequence[int]
) -> dict[str, float | None]:
    cpu = torch.device("cpu")
    return score(evaluate(model, checkpoint.tasks, reader, checkpoint.config.data, indices, cpu), checkpoint.tasks)


class _Network(nn.Module):
    """An exported file that is called as the network is."""

    def __init__(self, run: Run, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.run, self.inputs, self.outputs = run, inputs, outputs

    def forward(self, given: Mapping[str, torch.Tensor]) -> Outputs:
        found = self.run([given[name].float().numpy() for name in self.inputs])
        return dict(zip(self.outputs, map(torch.from_numpy, found), strict=True))
