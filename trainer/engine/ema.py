"""A moving average of the weights: what is evaluated and released where a recipe asks for it."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


class Ema:
    """``shadow ← d · shadow + (1 - d) · weights`` after each step, ``d = min(decay, (1 + step) / (10 + step))``.

    The warm-up of the decay is that of TensorFlow's ``ExponentialMovingAverage(num_updates=…)``. Buffers are not
    averaged: BatchNorm's running statistics are averages already.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = dict(model.named_parameters())
        self.shadow = {name: weight.detach().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def update(self, global_step: int) -> None:
        decay = min(self.decay, (1 + global_step) / (10 + global_step))
        torch._foreach_lerp_(list(self.shadow.values()), list(self.weights.values()), 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within: the model has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weight in self.weights.items():
            kept = weight.detach().clone()
            weight.copy_(self.shadow[name])
            self.shadow[name].copy_(kept)
