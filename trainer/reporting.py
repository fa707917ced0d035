"""Where a command's words go: standard output, and through Dagster Pipes into the run that launched it.

The one file of the trainer that knows of ``dagster_pipes``.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Protocol

from trainer.terminal.progress import Bar, display


class Reporter(Protocol):
    def info(self, text: str) -> None:
        """Something worth keeping in the run's event log."""

    def line(self, text: str) -> None:
        """Passing progress, for whoever watches."""

    def bar(self, title: str, unit: str = "") -> Bar:
        """How far something is, for whoever watches."""


class Console:
    def info(self, text: str) -> None:
        print(text, flush=True)

    def line(self, text: str) -> None:
        print(text, flush=True)

    def bar(self, title: str, unit: str = "") -> Bar:
        return Bar(title, unit)


class _Pipes(Console):
    def __init__(self, context: object) -> None:
        self._log = context.log  # type: ignore[attr-defined]

    def info(self, text: str) -> None:
        super().info(text)
        self._log.info(text)


@contextlib.contextmanager
def reporter(leads: bool) -> Iterator[Reporter]:
    """The leading rank reports into Dagster when it launched this process; every other process just prints.

    Bars are taken away at the end: a forked rank leaves without coming back to its command.
    """
    with contextlib.closing(display()), _reporter(leads) as report:
        yield report


@contextlib.contextmanager
def _reporter(leads: bool) -> Iterator[Reporter]:
    if not leads or "DAGSTER_PIPES_CONTEXT" not in os.environ:
        yield Console()
        return
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as context:
        yield _Pipes(context)
