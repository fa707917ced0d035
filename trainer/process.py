"""What we ask of the operating system for this process."""

import ctypes
import signal
import sys

PR_SET_PDEATHSIG = 1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, which may get no chance to do so itself (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def keep_freed_memory() -> None:
    """Have malloc keep what is freed (glibc's ``mallopt``) instead of giving it back to the kernel.

    A training on a CPU frees all its activations in each step: fetched anew, page by page, they cost it an eighth of
    its time. The process stays as large as it was at its peak.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
