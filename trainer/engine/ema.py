"""A moving average of the weights: what is evaluated and released where a recipe asks for it."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


class Ema:
    """``shadow ← d · shadow + (1 - d) · weights`` after each step, ``d = min(decay, (1 + step) / (10 + step))``.

    The warm-up of the decay is that of TensorFlow's ``ExponentialMovingAverage(num_updates=…)``. BatchNorm's running
    statistics are averaged alike (torchvision's ``use_buffers``): they are averages of the last ten batches only, and
    belong to the weights of these.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        kept = model.state_dict().keys()
        self.parameters = dict(model.named_parameters())
        self.statistics = {
            name: buffer for name, buffer in model.named_buffers() if name in kept and buffer.is_floating_point()
        }
        self.weights = self.parameters | self.statistics
        self.shadow = {name: weight.detach().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def update(self, global_step: int) -> None:
        decay = min(self.decay, (1 + global_step) / (10 + global_step))
        for weights in (self.parameters, self.statistics):  # apart: only parameters are ever sharded
            if weights:
                torch._foreach_lerp_([self.shadow[name] for name in weights], list(weights.values()), 1 - decay)

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
