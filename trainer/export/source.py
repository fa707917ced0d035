"""What is exported: a network, and samples of what it takes."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from trainer.export.passes import Arrays, Run
from trainer.models.hydranet import HydraNet
from trainer.tasks.base import Tensors


class Positional(nn.Module):
    """A network that takes its ``inputs`` and gives its outputs as tuples, in order: as exporters want."""

    def __init__(self, network: HydraNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.network(dict(zip(self.network.inputs, given, strict=True))).values())


@dataclass(frozen=True)
class Source:
    """``given``: two samples or more, the batch in front; ``calibration``: samples to choose int8 ranges by, if any."""

    network: HydraNet
    given: Tensors
    calibration: Iterable[Tensors] | None

    @property
    def model(self) -> Positional:
        return Positional(self.network).eval()

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(self.given[name] for name in self.network.inputs)

    @property
    def arrays(self) -> Arrays:
        return [tensor.numpy() for tensor in self.tensors]

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The outputs' names in their order."""
        with torch.inference_mode():
            return tuple(self.network(self.given))

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """The traced network, for any batch size."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(self.model, self.tensors, dynamic_shapes=self.dynamic_shapes)

    @cached_property
    def dynamic_shapes(self) -> dict[str, Any]:
        """For ``torch.export``: the first dimension of every input is one and the same, of any size."""
        batch = torch.export.Dim("batch")
        return {"given": tuple({0: batch} for _ in self.network.inputs)}


def torch_run(model: nn.Module) -> Run:
    def run(arrays: Arrays) -> Arrays:
        with torch.inference_mode():
            return [output.numpy() for output in model(*map(torch.from_numpy, arrays))]

    return run
