import os
import subprocess
import sys
import time

import psutil
import pytest

from trainer.contract.telemetry import SYSTEM_COLUMNS, read_system, system_file
from trainer.engine.telemetry.sampler import Sampler

RANK = """
import os, sys, time
from pathlib import Path
from trainer.engine.telemetry.sampler import Sampler
sampler = Sampler(Path(sys.argv[1]), 50, [os.getpid()], [])
print(sampler._process.pid, flush=True)
time.sleep(600)
"""


def wait_until(true, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_it_samples_at_the_interval_until_it_is_stopped(tmp_path):
    sampler = Sampler(system_file(tmp_path, "here", 1), 100, [os.getpid()], [])
    wait_until((tmp_path / "telemetry" / "system-here-1.arrows").exists)
    time.sleep(2.5)
    sampler.stop()
    frame = read_system(tmp_path)
    assert 15 <= len(frame) <= 27
    assert frame["time"].diff().median() == pytest.approx(0.1, abs=0.02)
    assert frame["cpu_percent"].between(0, 100).all()
    assert set(frame["node"]) == {"here"}
    assert {path.suffix for path in (tmp_path / "telemetry").iterdir()} == {".parquet"}
    assert not [name for name in frame.columns if name.startswith("gpu")]


@pytest.mark.slow
def test_memory_is_that_of_the_given_processes_and_their_children(tmp_path):
    hungry = "import time; block = bytearray(200_000_000); block[::4096] = b'1' * len(block[::4096]); time.sleep(600)"
    parent = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]]).wait()"
    rank = subprocess.Popen([sys.executable, "-c", parent, hungry])
    try:
        wait_until(lambda: sum(p.memory_info().rss for p in psutil.Process(rank.pid).children()) > 200e6)
        sampler = Sampler(system_file(tmp_path, "here", 1), 50, [rank.pid], [])
        wait_until((tmp_path / "telemetry" / "system-here-1.arrows").exists)
        time.sleep(0.5)
        sampler.stop()
    finally:
        for process in (*psutil.Process(rank.pid).children(), rank):
            process.kill()
        rank.wait()
    assert read_system(tmp_path)["ram_bytes"].median() == pytest.approx(230e6, rel=0.15)


def test_a_gpu_that_nvml_does_not_know_leaves_no_columns_and_samples_go_on(tmp_path):
    sampler = Sampler(system_file(tmp_path, "here", 1), 50, [os.getpid()], ["GPU-00000000-0000-0000-0000-000000000000"])
    wait_until((tmp_path / "telemetry" / "system-here-1.arrows").exists)
    time.sleep(0.3)
    sampler.stop()
    frame = read_system(tmp_path)
    assert len(frame)
    assert set(frame.columns) == {*SYSTEM_COLUMNS, "node", "attempt"}


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["the rank", "the sampler"])
def test_samples_outlive_a_kill(tmp_path, victim):
    file = system_file(tmp_path, "here", 1)
    rank = subprocess.Popen([sys.executable, "-c", RANK, str(file)], stdout=subprocess.PIPE, text=True)
    assert rank.stdout is not None
    sampler = psutil.Process(int(rank.stdout.readline()))
    wait_until(lambda: len(read_system(tmp_path)) > 0)
    before = len(read_system(tmp_path))
    (rank if victim == "the rank" else sampler).kill()
    # Neither stays behind: the sampler is killed with its rank.
    wait_until(lambda: not sampler.is_running() or sampler.status() == psutil.STATUS_ZOMBIE, 5)
    rank.kill()
    rank.wait()
    assert len(read_system(tmp_path)) >= before > 20
