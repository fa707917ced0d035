"""Ending a tree of processes, whichever sessions and process groups its members moved to."""

import contextlib
import time
from collections.abc import Iterable

import psutil

GRACE = 10.0
PATIENCE_WITH_LEADER = 5.0
TICK = 0.1


def stop_tree(leader: int, mark: tuple[str, str], grace: float = GRACE) -> None:
    """End ``leader``, its descendants and every process whose environment has the variable ``mark``.

    SIGTERM goes to the leader alone at first: torchrun passes it on, and a training can save its checkpoint while
    its loader processes still live. What is left after the leader's end is asked next, then killed at ``grace``.
    """
    known: dict[int, psutil.Process] = {}
    deadline = time.monotonic() + grace
    _collect(known, leader, mark)  # before any signal: a child whose parent is gone cannot be found by its parent
    _signal([process for process in known.values() if process.pid == leader], "terminate")
    _wait(known, leader, mark, until=min(deadline, time.monotonic() + PATIENCE_WITH_LEADER), only=leader)
    _signal(_alive(known), "terminate")
    _wait(known, leader, mark, until=deadline)
    while remaining := _alive(_collect(known, leader, mark)):
        _signal(remaining, "kill")
        psutil.wait_procs(remaining, timeout=1)


def _collect(known: dict[int, psutil.Process], leader: int, mark: tuple[str, str]) -> dict[int, psutil.Process]:
    """Add to ``known`` whatever belongs to the tree now; a process that left it stays known."""
    roots = list(known.values())
    if leader not in known and psutil.pid_exists(leader):
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
    return [process for process in known.values() if _is_alive(process)]


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(processes: Iterable[psutil.Process], how: str) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            getattr(process, how)()


def _wait(
    known: dict[int, psutil.Process], leader: int, mark: tuple[str, str], until: float, only: int | None = None
) -> None:
    while time.monotonic() < until:
        alive = _alive(_collect(known, leader, mark))
        if not any(only is None or process.pid == only for process in alive):
            return
        time.sleep(TICK)
