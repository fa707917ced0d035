"""Backbones: an image becomes feature maps at strides 4, 8, 16 and 32, and at 2 where a task wants it."""

from collections.abc import Sequence

import torch
from torch import nn


def conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al., Deep Residual Learning, 2015, figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, stride=stride)
        self.second = conv_norm(outputs, outputs)
        plain = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = nn.Identity() if plain else conv_norm(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(x))
        return torch.relu(self.second(hidden) + self.shortcut(x))


class Stem(nn.Sequential):
    """Two convolutions, each with its norm and ReLU: the maps behind both, at strides 2 and 4.

    One module that is called, and not a slice of it: a strategy that shards parameters hangs on the call.
    """

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        first, first_relu, second, second_relu = self
        fine = first_relu(first(image))
        return fine, second_relu(second(fine))


class ResNet(nn.Module):
    """A ResNet-style backbone with a stem of two 3×3 convolutions (ResNet-C of He et al., Bag of Tricks, 2018).

    Input N×3×H×W; output: four maps N×(width·2^i)×⌈H/2^(2+i)⌉×⌈W/2^(2+i)⌉, with ``finest`` 2 before them the stem's
    first, N×width×⌈H/2⌉×⌈W/2⌉.
    """

    def __init__(self, width: int, blocks: Sequence[int], finest: int = 4) -> None:
        super().__init__()
        self.finest = finest
        stages = [width * 2**stage for stage in range(len(blocks))]
        self.channels = [width, *stages] if finest == 2 else stages
        self.stem = Stem(
            conv_norm(3, width, stride=2),
            nn.ReLU(inplace=True),
            conv_norm(width, width, stride=2),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.ModuleList()
        inputs = width
        for stage, (outputs, count) in enumerate(zip(stages, blocks, strict=True)):
            strides = [1 if stage == 0 else 2] + [1] * (count - 1)
            layers = [BasicBlock(inputs if i == 0 else outputs, outputs, stride) for i, stride in enumerate(strides)]
            self.stages.append(nn.Sequential(*layers))
            inputs = outputs

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        fine, x = self.stem(image)
        maps = [fine] if self.finest == 2 else []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


BACKBONES = {"resnet": ResNet}
