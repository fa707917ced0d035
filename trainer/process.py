"""What we ask of the operating system for this process."""

import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, which may get no chance to do so itself (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with_torchrun() -> None:
    """:func:`die_with_parent` for a rank, also where torchrun was killed before the kernel could be asked."""
    die_with_parent()
    # An orphan's parent is the first process. That may be torchrun itself, in a container, but is then a Python.
    if os.getppid() == 1 and not _is_python(1):
        os.kill(os.getpid(), signal.SIGKILL)


def _is_python(pid: int) -> bool:
    try:
        return "python" in Path(f"/proc/{pid}/exe").readlink().name
    except OSError:  # somebody else's process, or another system
        return sys.platform != "linux"


def keep_freed_memory() -> None:
    """Have malloc keep what is freed (glibc's ``mallopt``) instead of giving it back to the kernel.

    A training on a CPU frees all its activations in each step: fetched anew, page by page, they cost it an eighth of
    its time. The process stays as large as it was at its peak.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
