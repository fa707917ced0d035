"""HydraNet: one backbone and neck shared by the heads of all tasks."""

from collections.abc import Mapping, Sequence
from typing import Protocol

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


IMAGE = "image"


class Headed(Protocol):
    """What the network must know of a task: see ``trainer/tasks/base.py``."""

    name: str
    inputs: tuple[str, ...]
    finest: int

    def head(self, channels: int) -> nn.Module: ...


class HydraNet(nn.Module):
    """``forward(given)``: ``image`` (N×3×H×W RGB in 0…255, any dtype) and the tasks' own inputs, ``<task>.<input>``,
    → each task's outputs, ``<task>.<output>``. ``inputs`` names all that is taken; without a ``camera`` there is no
    image and no backbone.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: ModelConfig, tasks: Sequence[Headed], camera: bool = True) -> None:
        super().__init__()
        self.inputs = (*([IMAGE] if camera else []), *(f"{task.name}.{name}" for task in tasks for name in task.inputs))
        self._inputs_of = {task.name: [f"{task.name}.{name}" for name in task.inputs] for task in tasks}
        self.camera = camera
        depth = self._build_eye(config, min((task.finest for task in tasks), default=4)) if camera else 0
        # A head's pyramid begins at the stride that it asks for.
        self._first_of = {task.name: int(camera and task.finest > self.backbone.finest) for task in tasks}
        self.heads = nn.ModuleDict({task.name: task.head(depth) for task in tasks})

    def _build_eye(self, config: ModelConfig, finest: int) -> int:
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        if config.backbone not in BACKBONES:
            problem = Problem("model", f"'{config.backbone}'", f"one of {list(BACKBONES)}", field="backbone")
            raise ContractError("the recipe's model is not usable", [problem])
        self.backbone = BACKBONES[config.backbone](config.width, config.blocks, finest)
        self.neck = FeaturePyramid(self.backbone.channels, config.neck_channels)
        return self.neck.channels

    def forward(self, given: Mapping[str, torch.Tensor]) -> Outputs:
        pyramid = self._look(given[IMAGE]) if self.camera else None
        outputs: Outputs = {}
        for task, head in self.heads.items():
            seen = None if pyramid is None else pyramid[self._first_of[task] :]
            for name, value in head(seen, *(given[name] for name in self._inputs_of[task])).items():
                outputs[f"{task}.{name}"] = value
        return outputs

    def _look(self, image: torch.Tensor) -> list[torch.Tensor]:
        pyramid: list[torch.Tensor] = self.neck(self.backbone((image.to(self.mean.dtype) - self.mean) / self.std))
        return pyramid


def of_task(values: dict[str, torch.Tensor], task: str) -> dict[str, torch.Tensor]:
    """The entries of one task, without its name in front."""
    prefix = f"{task}."
    return {name[len(prefix) :]: value for name, value in values.items() if name.startswith(prefix)}
