"""Telemetry of real trainings: two ranks under torchrun, one killed, one whose loader is slow."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.contract.ports import free_port
from trainer.contract.results import TrainResult
from trainer.contract.telemetry import PHASES, read_steps, read_system
from training_assets.telemetry import of_run

pytestmark = pytest.mark.slow

TORCHRUN = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2"]

SLOW_LOADER = """
import sys, time
import trainer.data.loader as loader
read = loader.read_image
def slowly(*arguments):
    time.sleep(0.1)
    return read(*arguments)
loader.read_image = slowly
from trainer.__main__ import main
sys.exit(main(sys.argv[1:]))
"""

SLOW_RANK = """
import pathlib, sys, time, torch, torch.distributed as dist
from torch import nn
from trainer.engine.telemetry.all_reduce import all_reduce_of
torch.set_num_threads(1)
dist.init_process_group("gloo")
model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)))
model(torch.ones(8, 64)).sum().backward()  # a dry run before the first step
timers, found = all_reduce_of(model, 4), {}
for row in range(1, 30):
    time.sleep(0.05 * dist.get_rank())
    model(torch.ones(8, 64)).sum().backward()
    if news := timers.exposed(row):
        found[news[0]] = news[1]
# Each rank in a file of its own: on the pipe that they share, Gloo's own lines may come in between.
told = f"{sorted(found)} {sorted(found.values())[len(found) // 2]}"
pathlib.Path(sys.argv[1], f"rank{dist.get_rank()}").write_text(told)
dist.destroy_process_group()
"""


def torchrun(*arguments: str) -> list[str]:
    return [*TORCHRUN, "--master-port", str(free_port()), *arguments]


def train(recipe: Path, data: Path, run_dir: Path, *overrides: str) -> list[str]:
    sets = [part for override in overrides for part in ("--set", override)]
    return ["train", str(recipe), "--data", str(data), "--run-dir", str(run_dir), *sets]


def started(command: list[str], log: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=log.open("a"), stderr=subprocess.STDOUT, env=environment)


def result_of(command: list[str], run_dir: Path) -> TrainResult:
    log = run_dir.with_suffix(".log")
    assert started(command, log).wait(timeout=120) == 0, log.read_text()[-3000:]
    return TrainResult.model_validate_json((run_dir / "result.json").read_bytes())


def test_a_killed_run_of_two_ranks_leaves_its_telemetry_and_its_next_attempt_joins_it(recipe, delivery, tmp_path):
    run_dir = tmp_path / "run"
    command = torchrun("-m", "trainer", *train(recipe, delivery, run_dir, "training.epochs=4"))
    first = started(command, tmp_path / "first.log")
    deadline = time.monotonic() + 90
    while len(list(run_dir.glob("checkpoints/*/COMPLETE"))) < 2 and first.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    killed = read_steps(run_dir)
    # Each checkpoint puts the finished steps on disk; its own ends after it.
    saved = max(int(marker.parent.name.split("-")[1]) for marker in run_dir.glob("checkpoints/*/COMPLETE"))
    for rank in (0, 1):
        assert set(range(1, saved)) <= set(killed[killed["rank"] == rank]["step"])

    result = result_of(torchrun("-m", "trainer", *train(recipe, delivery, run_dir, "training.epochs=4")), run_dir)
    telemetry = result.telemetry
    assert telemetry is not None
    steps, system = read_steps(run_dir), read_system(run_dir)
    assert set(steps["rank"]) == {0, 1}
    assert set(steps["attempt"]) == {1, 2}
    for rank, part in steps.groupby("rank"):
        assert set(part["step"]) >= set(range(1, 25)) - {result.resumed_from_step}, rank
    assert len(steps[steps["attempt"] == 1]) >= len(killed)
    assert system["cpu_percent"].between(0, 100).all()
    assert steps["all_reduce"].notna().any()
    assert (steps["all_reduce"].dropna() <= steps.loc[steps["all_reduce"].notna(), "backward"]).all()
    # A row ends where the next one begins: together they are the time that passed.
    second = steps[(steps["attempt"] == 2) & (steps["rank"] == 0)]
    sums = second[[phase for phase in PHASES if phase != "all_reduce"]].sum(axis=1)
    assert sums[1:].sum() == pytest.approx(second["time"].iloc[-1] - second["time"].iloc[0], rel=0.02, abs=0.01)
    assert (second["checkpoint"] > 0).sum() >= 1
    assert sum(telemetry.shares.values()) == pytest.approx(1.0)
    assert telemetry.samples_per_second is not None
    assert telemetry.verdict.startswith(telemetry.bottleneck)

    metadata = of_run(telemetry, run_dir)
    assert metadata["bottleneck"] == telemetry.verdict
    assert {"phases", "phases_over_steps", "utilisation"} <= set(metadata)


def test_a_slow_loader_is_called_input_bound(recipe, delivery, tmp_path):
    run_dir = tmp_path / "slow"
    command = [
        sys.executable,
        "-c",
        SLOW_LOADER,
        *train(recipe, delivery, run_dir, "training.checkpoint_every=50", "data.cache_mb=0"),
    ]
    telemetry = result_of(command, run_dir).telemetry
    assert telemetry is not None
    assert telemetry.bottleneck == "input"
    assert telemetry.shares["data_wait"] > 0.4
    assert "waits for data" in telemetry.verdict


def test_telemetry_that_is_not_wanted_leaves_nothing(recipe, delivery, tmp_path):
    run_dir = tmp_path / "quiet"
    arguments = train(recipe, delivery, run_dir, "training.epochs=1", "telemetry.enabled=false")
    subprocess.run([sys.executable, "-m", "trainer", *arguments], check=True, timeout=90, capture_output=True)
    assert TrainResult.model_validate_json((run_dir / "result.json").read_bytes()).telemetry is None
    assert not (run_dir / "telemetry").exists()


def test_all_reduce_of_a_fast_rank_is_its_wait_for_the_slow_one(tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(SLOW_RANK)
    subprocess.run(torchrun(str(script), str(tmp_path)), check=True, timeout=90)
    ranks = [(tmp_path / rank).read_text() for rank in ("rank0", "rank1")]
    fast, slow = (float(told.rpartition(" ")[2]) for told in ranks)
    assert fast == pytest.approx(0.05, abs=0.025)
    assert slow < fast / 2
    # Iterations 2 to 10 and every fourth, the dry run being the first.
    assert ranks[0].startswith("[1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 15, 19, 23, 27]")
