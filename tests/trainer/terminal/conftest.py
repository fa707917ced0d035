"""Commands as people and scripts run them: in a process, with pipes or a terminal of their own."""

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Seen:
    code: int
    text: str


@pytest.fixture
def environment() -> dict[str, str]:
    """Of a shell that asks for no colours and takes none away."""
    asked = {"NO_COLOR", "FORCE_COLOR", "TERM"}
    return {**{name: value for name, value in os.environ.items() if name not in asked}, "PYTHONPATH": str(ROOT)}


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def piped(environment: dict[str, str]) -> Run:
    """Run Python with its output in pipes."""

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment | more, cwd=ROOT, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture
def watched(environment: dict[str, str]) -> Callable[..., Seen]:
    """Run Python on a terminal; its exit code and all that the terminal got."""

    def run(*arguments: str, **more: str) -> Seen:
        return _on_a_terminal([sys.executable, *arguments], environment | {"TERM": "xterm"} | more)

    return run


def _on_a_terminal(command: list[str], environment: Mapping[str, str]) -> Seen:
    ours, theirs = pty.openpty()
    pieces: list[bytes] = []
    reader = threading.Thread(target=_read, args=(ours, pieces))
    reader.start()
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    code = process.wait(timeout=120)
    reader.join()
    os.close(ours)
    return Seen(code, b"".join(pieces).decode())


def _read(descriptor: int, pieces: list[bytes]) -> None:
    try:
        while piece := os.read(descriptor, 65536):
            pieces.append(piece)
    except OSError:  # Linux: the other side is closed
        return
