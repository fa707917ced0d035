"""How a model is spread over the ranks. One small class a strategy, one line in ``strategy_of``."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from trainer.contract.train_config import Launch
from trainer.data.loader import Batch
from trainer.engine.parallel import Ranks


class Strategy(Protocol):
    def wrap(self, module: nn.Module) -> nn.Module:
        """``module``, ready to be trained by all ranks together; its parameters stay where they are in it."""

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        """Once, before the first step of a process: the first pass must not differ from all that follow."""

    def exchange(self, module: nn.Module, when: bool) -> contextlib.AbstractContextManager[None]:
        """Within: a backward pass exchanges gradients only ``when`` it is the last one before an update."""


class Alone:
    """One rank."""

    def wrap(self, module: nn.Module) -> nn.Module:
        return module

    def rehearse(self, module: nn.Module, batch: Batch) -> None: ...

    def exchange(self, module: nn.Module, when: bool) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Replicated:
    """A replica on each rank, gradients averaged while they are computed (DistributedDataParallel).

    Buffers are not sent around at each step: a rank's own BatchNorm statistics do not enter its training, and the
    leader's are given to all where they count, before a checkpoint and an evaluation.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def wrap(self, module: nn.Module) -> nn.Module:
        device_ids = [self.ranks.device.index] if self.ranks.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            module, device_ids=device_ids, forward_sync_buffers=False, gradient_as_bucket_view=True
        )

    def rehearse(self, module: nn.Module, batch: Batch) -> None:
        # DDP lays gradients out anew after its first pass, as they came; where a gradient lies decides in which order
        # three or more ranks are summed up, and so the last bit. A resumed training would have its own first pass.
        buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
        device = self.ranks.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            module(batch)[-1].backward()
        module.zero_grad(set_to_none=True)
        for buffer, value in buffers:
            buffer.copy_(value)

    def exchange(self, module: nn.Module, when: bool) -> contextlib.AbstractContextManager[None]:
        assert isinstance(module, nn.parallel.DistributedDataParallel)
        return contextlib.nullcontext() if when else module.no_sync()


class Sharded:
    """Parameters, gradients and optimizer state cut over the ranks (FSDP2, Zhao et al., PyTorch FSDP, 2023).

    Each stage, neck and head is gathered when it is needed and dropped again.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.mesh = init_device_mesh(ranks.device.type, (ranks.world_size,))

    def wrap(self, module: nn.Module) -> nn.Module:
        for part in _units(module):
            fully_shard(part, mesh=self.mesh)
        return module

    def rehearse(self, module: nn.Module, batch: Batch) -> None: ...

    @contextlib.contextmanager
    def exchange(self, module: nn.Module, when: bool) -> Iterator[None]:
        for part in module.modules():
            if isinstance(part, FSDPModule):
                part.set_requires_gradient_sync(when, recurse=False)
        yield


def _units(module: nn.Module) -> list[nn.Module]:
    """What is gathered as a unit, the innermost first: two levels below each child of ``module``, where called."""
    units: list[nn.Module] = []
    for top in module.children():
        for part in _called_children(top):
            units += [*_called_children(part), part]
        units.append(top)
    return [unit for unit in units if any(True for _ in unit.parameters())]


def _called_children(module: nn.Module) -> list[nn.Module]:
    # A ModuleList or ModuleDict is never called itself: its entries are.
    containers = (nn.ModuleList, nn.ModuleDict)
    return [
        called
        for child in module.children()
        for called in (_called_children(child) if isinstance(child, containers) else [child])
    ]


def strategy_of(launch: Launch, ranks: Ranks) -> Strategy:
    """The strategy that ``launch`` asks for; one rank needs none."""
    if ranks.world_size == 1:
        return Alone()
    return Sharded(ranks) if launch.strategy == "fsdp" else Replicated(ranks)


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The full tensor of a shard; a collective of all ranks when it is one."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
