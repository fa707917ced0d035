"""HydraNet: one backbone and neck shared by the heads of all tasks."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from trainer.contract.errors import ContractError, Problem
from trainer.contract.train_config import Model as ModelConfig
from trainer.models.backbones import BACKBONES
from trainer.models.necks import FeaturePyramid

# ImageNet's channel statistics, the customary normalisation of RGB images in 0…255.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)

Outputs = dict[str, torch.Tensor]
"""``<task>.<output>`` → tensor with the batch in front."""


class HydraNet(nn.Module):
    """``forward(image)``: N×3×H×W RGB in 0…255 (any dtype) → each task's outputs, ``<task>.<output>``.

    ``heads`` maps a task to what builds its head for a depth of the pyramid.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: ModelConfig, heads: Mapping[str, Callable[[int], nn.Module]]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        if config.backbone not in BACKBONES:
            problem = Problem("model", f"'{config.backbone}'", f"one of {list(BACKBONES)}", field="backbone")
            raise ContractError("the recipe's model is not usable", [problem])
        self.backbone = BACKBONES[config.backbone](config.width, config.blocks)
        self.neck = FeaturePyramid(self.backbone.channels, config.neck_channels)
        self.heads = nn.ModuleDict({task: build(self.neck.channels) for task, build in heads.items()})

    def forward(self, image: torch.Tensor) -> Outputs:
        pyramid = self.neck(self.backbone((image.to(self.mean.dtype) - self.mean) / self.std))
        outputs: Outputs = {}
        for task, head in self.heads.items():
            for name, value in head(pyramid).items():
                outputs[f"{task}.{name}"] = value
        return outputs


def of_task(values: dict[str, torch.Tensor], task: str) -> dict[str, torch.Tensor]:
    """The entries of one task, without its name in front."""
    prefix = f"{task}."
    return {name[len(prefix) :]: value for name, value in values.items() if name.startswith(prefix)}
