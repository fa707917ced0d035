"""``ddp_fork``: the ranks of one node as forks of this process, without torchrun."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess

from trainer.contract.errors import ContractError, Problem
from trainer.contract.ports import free_port
from trainer.contract.train_config import Launch
from trainer.process import die_with_parent

GRACE = 10.0
TICK = 0.05


def forked(processes: int, work: Callable[[], int]) -> int:
    """Run ``work`` in ``processes`` forks as ranks of one process group; the exit code of the first that failed.

    A signal to stop is passed on to all. When one rank fails the others are told to stop, and killed after ``GRACE``.
    """
    port = free_port()
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_rank, args=(rank, processes, port, work)) for rank in range(processes)]
    for rank in ranks:
        rank.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _tell(ranks))
    return _first_failure(ranks)


def forks_of(launch: Launch) -> int:
    """How many ranks this command has to fork itself: none (1) under torchrun or for a single device.

    Raises:
        ContractError: several nodes, which need torchrun on each.
    """
    if "RANK" in os.environ:
        return 1
    if launch.num_nodes > 1:
        problem = Problem("recipe", str(launch.num_nodes), "1 without torchrun", field="launch.num_nodes")
        raise ContractError("this command starts ranks on its own node only", [problem], "Start torchrun on each node.")
    return launch.processes if launch.processes is not None else max(1, gpus())


def gpus() -> int:
    """How many GPUs this node has."""
    # Counted by NVML: a process that has touched CUDA itself cannot fork ranks that use it.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _rank(rank: int, world_size: int, port: int, work: Callable[[], int]) -> None:
    die_with_parent()
    # The parent's handlers are of no use here, and Ctrl-C reaches the whole group: the parent passes it on.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    raise SystemExit(work())


def _first_failure(ranks: Sequence[BaseProcess]) -> int:
    code, deadline = 0, float("inf")
    while any(rank.is_alive() for rank in ranks):
        failed = [rank.exitcode for rank in ranks if rank.exitcode]
        if failed and not code:
            code, deadline = failed[0], time.monotonic() + GRACE
            _tell(ranks)
        if time.monotonic() > deadline:
            for rank in ranks:
                rank.kill()
        time.sleep(TICK)
    code = code or next((rank.exitcode for rank in ranks if rank.exitcode), 0)
    return code if code >= 0 else 128 - code


def _tell(ranks: Sequence[BaseProcess]) -> None:
    for rank in ranks:
        if rank.is_alive():
            rank.terminate()
