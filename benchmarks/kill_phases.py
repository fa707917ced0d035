"""The trainer's command line with a board on which each rank shows what it is doing: what ``kill.py`` starts.

``KILL_BOARD`` names the boards: ``<KILL_BOARD>.<rank>`` is a small file in shared memory. What a killed process showed
last is where it died.
"""

import functools
import mmap
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START, BETWEEN, STEP, SAVE, EVALUATION, END = "start", "between", "step", "save", "evaluation", "end"
PHASES = (START, BETWEEN, STEP, SAVE, EVALUATION, END)
LAYOUT = struct.Struct("=BBHII")  # phase, writing, -, steps, pid


@dataclass(frozen=True)
class Shown:
    """What a rank was doing: ``phase`` of its training thread, whether a checkpoint was being written behind it."""

    phase: str
    writing: bool
    steps: int
    pid: int


class Board:
    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(LAYOUT.size))
        with open(path, "r+b") as stream:
            self._memory = mmap.mmap(stream.fileno(), LAYOUT.size)

    def read(self) -> Shown:
        phase, writing, _, steps, pid = LAYOUT.unpack(self._memory[:])
        return Shown(PHASES[phase], bool(writing), steps, pid)

    def show(self, phase: str) -> str:
        """Show ``phase``; returns the one before."""
        before = PHASES[self._memory[0]]
        if phase == STEP:
            self._memory[4:8] = struct.pack("=I", self.read().steps + 1)
        self._memory[0] = PHASES.index(phase)
        return before

    def write(self, writing: bool) -> None:
        self._memory[1] = writing

    def sign(self) -> None:
        self._memory[8:12] = struct.pack("=I", os.getpid())


@functools.cache
def _own() -> Board:
    board = Board(Path(f"{os.environ['KILL_BOARD']}.{os.environ['RANK']}"))
    board.sign()
    return board


def main(arguments: list[str]) -> int:
    """``python -m trainer`` with ``arguments``."""
    if "RANK" in os.environ:
        _own()
    import trainer.commands.train as command
    from trainer.__main__ import main as command_line
    from trainer.engine.checkpointer import Checkpointer
    from trainer.engine.loop import Trainer
    from trainer.engine.step import TrainStep

    _wrap(command, "_train_here", _signed)  # of ddp_fork, whose ranks come to be here
    _shown(Trainer, "fit", BETWEEN, END)
    _shown(Trainer, "save", SAVE)
    _shown(Trainer, "_evaluate", EVALUATION)
    _shown(TrainStep, "__call__", STEP)
    _wrap(Checkpointer, "_write", _writing)
    return command_line(arguments)


def _shown(owner: type, name: str, phase: str, after: str | None = None) -> None:
    def around(work: Callable[..., Any], *arguments: Any) -> Any:
        before = _own().show(phase)
        result = work(*arguments)
        _own().show(after or before)
        return result

    _wrap(owner, name, around)


def _signed(work: Callable[..., Any], *arguments: Any) -> Any:
    if "RANK" in os.environ:
        _own()
    return work(*arguments)


def _writing(work: Callable[..., Any], *arguments: Any) -> Any:
    _own().write(True)
    try:
        return work(*arguments)
    finally:
        _own().write(False)


def _wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    work = getattr(owner, name)

    @functools.wraps(work)
    def wrapped(*arguments: Any) -> Any:
        return around(work, *arguments)

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
