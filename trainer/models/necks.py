"""Necks: feature maps of several strides become one pyramid of equal depth."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from trainer.models.backbones import conv_norm


class FeaturePyramid(nn.Module):
    """Top-down pathway with lateral connections (Lin et al., Feature Pyramid Networks, 2017).

    Takes the backbone's maps, fine to coarse; gives maps of the same sizes with ``channels`` channels each.
    """

    def __init__(self, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.lateral = nn.ModuleList(nn.Conv2d(depth, channels, 1) for depth in inputs)
        self.smooth = nn.ModuleList(conv_norm(channels, channels) for _ in inputs)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        merged = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for level in range(len(merged) - 2, -1, -1):
            upper = functional.interpolate(merged[level + 1], size=merged[level].shape[2:], mode="nearest")
            merged[level] = merged[level] + upper
        return [torch.relu(smooth(x)) for smooth, x in zip(self.smooth, merged, strict=True)]


def merge_finest(pyramid: list[torch.Tensor]) -> torch.Tensor:
    """The sum of all levels at the finest one's size (the merging of Kirillov et al., Panoptic FPN, 2019)."""
    merged = pyramid[0]
    for level in pyramid[1:]:
        merged = merged + functional.interpolate(level, size=merged.shape[2:], mode="bilinear", align_corners=False)
    return merged
