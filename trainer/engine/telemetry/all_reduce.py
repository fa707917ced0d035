"""How long a step's backward pass is held up by averaging gradients, by DistributedDataParallel's own timers."""

from collections.abc import Iterator
from typing import Protocol

from torch import nn
from torch.nn.parallel import DistributedDataParallel

ALWAYS = 10
"""DistributedDataParallel times its first ten iterations whatever its sample rate."""


class AllReduce(Protocol):
    def exposed(self, row: int) -> tuple[int, float] | None:
        """After step ``row`` (1 is the attempt's first): a step before it and its seconds, where there is news."""


class Unknown:
    """One rank alone, or gradients that are not averaged by DistributedDataParallel (FSDP)."""

    def exposed(self, row: int) -> tuple[int, float] | None:
        return None


class DdpTimers:
    """Communication less what of it the backward pass's computing hid: what a faster network would save.

    It includes the wait for slower ranks. The timers (host clock with gloo, CUDA events with nccl) are those of
    ``torch.nn.parallel.DistributedDataParallel``'s logger; an iteration's are read in the next one.
    """

    def __init__(self, model: DistributedDataParallel, sample_every: int) -> None:
        self._model, self._sample_every = model, sample_every
        self._before: int | None = None
        self._seen = 0
        model._set_ddp_runtime_logging_sample_rate(sample_every)  # type: ignore[no-untyped-call]

    def exposed(self, row: int) -> tuple[int, float] | None:
        if self._before is not None and not self._due(row):
            return None
        data = self._model._get_ddp_logging_data()  # type: ignore[no-untyped-call]
        iteration = int(data.get("iteration", 0))
        if self._before is None:
            # What was iterated before the first step (a dry run) is not ours.
            self._before = self._seen = iteration
        if iteration == self._seen:
            return None
        self._seen = iteration
        nanoseconds = data["backward_comm_time"] - data["backward_compute_comm_overlap_time"]
        return iteration - self._before, max(0, nanoseconds) / 1e9

    def _due(self, row: int) -> bool:
        iteration = row - 1 + (self._before or 0)
        return iteration <= ALWAYS or iteration % self._sample_every == 0


def all_reduce_of(model: nn.Module, sample_every: int) -> AllReduce:
    """What times the gradients of ``model``, wrapped as it is trained."""
    wrapped: Iterator[nn.Module] = (part for part in model.modules() if isinstance(part, DistributedDataParallel))
    ddp = next(wrapped, None)
    return DdpTimers(ddp, sample_every) if isinstance(ddp, DistributedDataParallel) else Unknown()
