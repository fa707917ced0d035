"""What a process asks of the operating system."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer import process

ORPHAN = """
import os, sys, time
while os.getppid() == int(sys.argv[1]):
    time.sleep(0.01)
open(sys.argv[2], "w").write(str(os.getppid()))
import trainer.__main__
open(sys.argv[3], "w").write("lives")
"""
PARENT = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid()), *sys.argv[2:]])
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_rank", [True, False])
def test_a_rank_whose_torchrun_died_before_its_first_line_ends(
    is_rank: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_rank:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    adopted, lives = tmp_path / "adopted", tmp_path / "lives"
    subprocess.run([sys.executable, "-c", PARENT, ORPHAN, str(adopted), str(lives)], check=True, timeout=60)
    wait(lambda: adopted.exists() and adopted.read_text())
    if adopted.read_text() != "1" or process._is_python(1):
        pytest.skip("this machine gives orphans to another process than a first one that is no Python")
    if is_rank:
        time.sleep(2.0)
    else:
        wait(lives.exists)
    assert lives.exists() != is_rank


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
