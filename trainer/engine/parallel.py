"""The ranks of a run: who I am, on which device, and the few things that ranks tell each other."""

import contextlib
import importlib.util
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from trainer.contract.errors import ContractError, Problem
from trainer.contract.train_config import Launch
from trainer.process import keep_freed_memory

T = TypeVar("T")
SMDDP = "smdistributed.dataparallel.torch.torch_smddp"


@dataclass
class Ranks:
    """This process among the ``world_size`` processes of the run, and its device.

    What ranks tell each other beside gradients goes through gloo on the host, so that it never waits for a GPU.
    """

    rank: int
    world_size: int
    device: torch.device
    host_group: dist.ProcessGroup | None = None
    _question: tuple[torch.Tensor, dist.Work] | None = field(default=None, repr=False)

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def new_host_group(self) -> dist.ProcessGroup | None:
        """Another group of all ranks, for a thread of its own; every rank must make it at the same point."""
        return dist.new_group(backend="gloo") if self.world_size > 1 else None

    def gather(self, value: T) -> list[T]:
        """Every rank's ``value``, by rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.host_group)
        return values

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of ``value`` over the ranks; ``value`` itself stays."""
        if self.world_size == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total / self.world_size

    def agreed(self, flags: list[bool]) -> list[bool]:
        """Which of ``flags`` any rank had set when it asked *before*: the same answer on all ranks, without waiting.

        The question travels while the next step is computed. Alone in the world, the answer is of now.
        """
        if self.world_size == 1:
            return flags
        earlier, self._question = self._question, self._ask(flags)
        if earlier is None:
            return [False] * len(flags)
        earlier[1].wait()
        return [bool(flag) for flag in earlier[0].tolist()]

    def _ask(self, flags: list[bool]) -> tuple[torch.Tensor, dist.Work]:
        question = torch.tensor([int(flag) for flag in flags])
        return question, dist.all_reduce(question, dist.ReduceOp.MAX, group=self.host_group, async_op=True)

    def share(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every rank the leader's ``tensors``."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def barrier(self) -> None:
        if self.world_size > 1:
            dist.barrier(group=self.host_group)

    def settle(self) -> None:
        """Hear the last answer, which nobody asks for any more."""
        if self._question is not None:
            self._question[1].wait()
            self._question = None


@contextlib.contextmanager
def join(launch: Launch) -> Iterator[Ranks]:
    """Take this process's place in the run that ``torchrun`` started (or alone), and leave it tidily.

    CUDA through NCCL (through SageMaker's smddp where that library is installed), CPU through gloo.

    Raises:
        ContractError: ``launch.accelerator`` or ``launch.devices`` is not there.
    """
    torch.set_num_threads(launch.threads)
    torch.set_float32_matmul_precision("high")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode("warn")  # as use_deterministic_algorithms, without importing the compiler
    # Filling every new tensor with NaN, which comes with that, is a tenth of a step on a CPU.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    world_size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    device = device_of(launch, int(os.environ.get("LOCAL_RANK", 0)))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        keep_freed_memory()
    host_group = None
    if world_size > 1:
        dist.init_process_group(backend_of(device))
        host_group = dist.new_group(backend="gloo")
    try:
        yield Ranks(rank, world_size, device, host_group)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def device_of(launch: Launch, local_rank: int) -> torch.device:
    """The device of the node's rank number ``local_rank``: ``devices[local_rank]`` where the recipe lists them.

    Raises:
        ContractError: there is no such device on this host.
    """
    available = torch.cuda.device_count() if launch.accelerator != "cpu" else 0
    if launch.accelerator == "cpu" or (launch.accelerator == "auto" and not available):
        return torch.device("cpu")
    index = launch.devices[local_rank] if isinstance(launch.devices, tuple) else local_rank
    if index >= available:
        found = f"accelerator {launch.accelerator}, device {index}; this host has {available} CUDA devices"
        problem = Problem("recipe", found, "devices that the host has", field="launch.devices")
        raise ContractError("the device is not there", [problem], "Set launch.accelerator or launch.devices.")
    return torch.device("cuda", index)


def backend_of(device: torch.device) -> str:
    """The collective library for gradients on ``device``."""
    if device.type == "cpu":
        return "gloo"
    if _is_installed(SMDDP):
        importlib.import_module(SMDDP)  # registers itself with torch.distributed
        return "smddp"
    return "nccl"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
