"""Ending a tree of processes, whichever sessions and process groups its members moved to."""

import contextlib
import time
from collections.abc import Iterable, Sequence

import psutil

GRACE = 10.0
PATIENCE_WITH_LEADER = 5.0
TICK = 0.1


def stop_tree(leaders: Sequence[int], mark: tuple[str, str], grace: float = GRACE) -> None:
    """End ``leaders``, their descendants and every process whose environment has the variable ``mark``.

    SIGTERM goes to the leaders alone at first: they tell the ranks, and a training can save its checkpoint while
    its loader processes still live. What is left after the leaders' end is asked next, then killed at ``grace``.
    """
    known: dict[int, psutil.Process] = {}
    deadline = time.monotonic() + grace
    _collect(known, leaders, mark)  # before any signal: a child whose parent is gone cannot be found by its parent
    _signal([process for process in known.values() if process.pid in leaders], "terminate")
    _wait(known, leaders, mark, until=min(deadline, time.monotonic() + PATIENCE_WITH_LEADER), only=leaders)
    _signal(_alive(known), "terminate")
    _wait(known, leaders, mark, until=deadline)
    while remaining := _alive(_collect(known, leaders, mark)):
        _signal(remaining, "kill")
        psutil.wait_procs(remaining, timeout=1)


def _collect(
    known: dict[int, psutil.Process], leaders: Sequence[int], mark: tuple[str, str]
) -> dict[int, psutil.Process]:
    """Add to ``known`` whatever belongs to the tree now; a process that left it stays known."""
    roots = list(known.values())
    for leader in leaders:
        if leader not in known:
            with contextlib.suppress(psutil.Error):
                roots.append(psutil.Process(leader))
    for root in roots:
        with contextlib.suppress(psutil.Error):
            known.setdefault(root.pid, root)
            for child in root.children(recursive=True):
                known.setdefault(child.pid, child)
    for process in marked(mark):
        known.setdefault(process.pid, process)
    return known


def marked(mark: tuple[str, str]) -> list[psutil.Process]:
    """The processes with this environment variable: also those that lost their parent."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(mark[0]) == mark[1]:
                found.append(process)
    return found


def _alive(known: dict[int, psutil.Process]) -> list[psutil.Process]:
    return [process for process in known.values() if is_alive(process)]


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(processes: Iterable[psutil.Process], how: str) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            getattr(process, how)()


def _wait(
    known: dict[int, psutil.Process],
    leaders: Sequence[int],
    mark: tuple[str, str],
    until: float,
    only: Sequence[int] | None = None,
) -> None:
    while time.monotonic() < until:
        alive = _alive(_collect(known, leaders, mark))
        if not any(only is None or process.pid in only for process in alive):
            return
        time.sleep(TICK)
