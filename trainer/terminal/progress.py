"""How far something is: bars on a terminal, now and then a plain line in a log.

Bars are drawn on standard error, where that is a terminal; otherwise lines go to standard output, where what a command
says goes too. Whoever reports calls as often as it likes: the rhythm is decided here.
"""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from trainer.terminal.colours import has_colours, is_terminal

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

DRAWN_EVERY_S = 0.2
FIRST_LINE_S, EVERY_SHARE, MOST_LINE_S = 5.0, 0.05, 60.0
"""The first line of a log after this time, the next ones after a share of what it took so far, up to a minute."""
QUICK_S = 1.0
"""What took less is not told of at its end."""


class Bar:
    """How far one thing is: ``bar(done, total)``, with a ``note`` behind it. Its last call has ``done == total``.

    ``due`` says whether the next call will be shown: what is dear to find out for a note is asked for then only.
    """

    def __init__(self, title: str, unit: str = "", say: Callable[[str], None] | None = None) -> None:
        self.title, self.unit, self._say = title, unit, say or _printed
        self._began = self._told = time.monotonic()
        self._display = display()
        self._task: TaskID | None = None
        self._ended = False

    @property
    def draws(self) -> bool:
        """Whether there is a terminal to draw on; if not, lines are told."""
        return self._display.draws

    @property
    def due(self) -> bool:
        now = time.monotonic()
        return now - self._told >= (DRAWN_EVERY_S if self._display.draws else _pause(now - self._began))

    def __call__(self, done: int, total: int, note: str = "") -> None:
        if self._ended:
            return
        if done >= total:
            self.close()
            seconds = time.monotonic() - self._began
            if seconds >= QUICK_S:
                self._say(f"  {self.title} {done}{self._of_unit} in {seconds:.1f} s{_behind(note)}")
        elif self.due or (self._display.draws and self._task is None):
            self._told = time.monotonic()
            self._show(done, total, note)

    def close(self) -> None:
        """Take the bar away; later calls say nothing."""
        self._ended = True
        if self._task is not None:
            self._display.take_away(self._task)
            self._task = None

    @property
    def _of_unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    def _show(self, done: int, total: int, note: str) -> None:
        if self._display.draws:
            self._task = self._display.drawn(self._task, f"{self.title}{self._of_unit}", done, total, note)
        else:
            left = (time.monotonic() - self._began) * (total - done) / done if done else 0.0
            eta = f"  {clock(left)} left" if done else ""
            self._say(f"  {self.title} {done}/{total}{self._of_unit} ({done / total:.0%}){eta}{_behind(note)}")


class Display:
    """The bars of this process, below what it says."""

    def __init__(self) -> None:
        self.draws = is_terminal(sys.stderr)
        self._bars: Progress | None = None

    def drawn(self, task: "TaskID | None", title: str, done: int, total: int, note: str) -> "TaskID":
        self._bars = self._bars or _bars()
        if task is None:
            # The first state is no speed: what went before is not counted.
            return self._bars.add_task(title, total=total, completed=done, note=note)
        self._bars.update(task, total=total, completed=done, note=note)
        return task

    def take_away(self, task: "TaskID") -> None:
        if self._bars is None:
            return
        self._bars.remove_task(task)
        if not self._bars.tasks:
            self.close()

    def close(self) -> None:
        """Leave the terminal as it was. Bars that are drawn later begin anew."""
        bars, self._bars = self._bars, None
        if bars is not None:
            for task in bars.task_ids:
                bars.remove_task(task)
            bars.stop()


_DISPLAYS: list[Display] = []


def display() -> Display:
    """The one of this process; a new one where standard error has become another stream."""
    if not _DISPLAYS or _DISPLAYS[0].draws != is_terminal(sys.stderr):
        _DISPLAYS[:] = [Display()]
    return _DISPLAYS[0]


def counted(title: str, unit: str) -> Callable[[int, int], None]:
    """A :class:`Bar` as those take it who only count."""
    return Bar(title, unit)


def clock(seconds: float) -> str:
    """``42 s``, ``3:07`` or ``1:02:33``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _bars() -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("  {task.description}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(stderr=True, force_terminal=True, no_color=not has_colours(sys.stderr), highlight=False)
    # What is printed meanwhile appears above the bars, unless it goes into a file or a pipe.
    bars = Progress(
        *columns,
        console=console,
        transient=True,
        refresh_per_second=1 / DRAWN_EVERY_S,
        redirect_stdout=is_terminal(sys.stdout),
    )
    bars.start()
    return bars


def _pause(so_far: float) -> float:
    return min(max(FIRST_LINE_S, so_far * EVERY_SHARE), MOST_LINE_S)


def _behind(note: str) -> str:
    return f"  {note}" if note else ""


def _printed(text: str) -> None:
    print(text, flush=True)
