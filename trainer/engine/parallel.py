"""The ranks of a run: who I am, and the few things that ranks tell each other."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from trainer.process import die_with_parent


@dataclass(frozen=True)
class Ranks:
    """This process among the ``world_size`` processes of the run, and its device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """``model`` with its gradients averaged over the ranks (DistributedDataParallel)."""
        if self.world_size == 1:
            return model
        device_ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's ``value``, by rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of ``value`` over the ranks."""
        if self.world_size > 1:
            dist.all_reduce(value)
        return value / self.world_size

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is set on any rank; the same answer on all."""
        if self.world_size == 1:
            return flag
        return any(self.gather(flag)) if self.device.type == "cuda" else self._any_on_cpu(flag)

    def _any_on_cpu(self, flag: bool) -> bool:
        value = torch.tensor([int(flag)])
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return bool(value.item())

    def share_buffers(self, model: nn.Module) -> None:
        """Give every rank the leader's buffers: BatchNorm's running statistics differ after a rank's own batch."""
        if self.world_size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier()


@contextlib.contextmanager
def join(threads: int) -> Iterator[Ranks]:
    """Take this process's place in the run that ``torchrun`` started (or alone), and leave it tidily.

    NCCL on CUDA, gloo on CPU; ``threads`` CPU threads for torch.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        die_with_parent()
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")
    torch.use_deterministic_algorithms(True, warn_only=True)
    world_size, local_rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(int(os.environ.get("RANK", 0)), world_size, device)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
