"""Trainings that the failure tests launch in a world of their own: a tiny /dev/shm, a rank that never comes."""

import ctypes
import datetime
import os
import runpy
import sys
import time
from pathlib import Path

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x00020000, 0x4000, 1 << 18


def small_shm(arguments: list[str]) -> None:
    """The trainer with 1 MiB of shared memory, in a mount namespace of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(CLONE_NEWNS) == 0
    assert libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0
    assert libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size=1m") == 0
    sys.argv = ["trainer", *arguments]
    runpy.run_module("trainer", run_name="__main__")


def late(arguments: list[str]) -> None:
    """Rank 1 finishes step 4 and does not come to the all-reduce of step 5."""
    import torch
    import torch.distributed as dist

    from trainer.contract.attempts import Heartbeat, attempt_dir
    from trainer.engine.failure import explained

    run_dir, rank = Path(arguments[0]), int(os.environ["RANK"])
    with explained(run_dir):
        dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=3))
        heart = Heartbeat(attempt_dir(run_dir), rank)
        for step in range(5):
            if step == 4 and rank == 1:
                time.sleep(600)
            heart.beat(step + 1, step)
            dist.all_reduce(torch.zeros(1))
            heart.beat(step + 1, step + 1)


if __name__ == "__main__":
    {"small_shm": small_shm, "late": late}[sys.argv[1]](sys.argv[2:])
