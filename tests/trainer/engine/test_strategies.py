"""Ranks started by torchrun and by fork, replicated and sharded: real processes, gloo."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from trainer.contract.results import Failure, TrainResult

pytestmark = pytest.mark.slow

SHARDED = ("launch.strategy=fsdp", "training.precision=bf16", "optim.ema_decay=0.9", "balancing.method=uncertainty")
LONG = ("training.epochs=2", "training.checkpoint_every=2", "guards.determinism.enabled=false")


def start(
    recipe: Path, data: Path, run_dir: Path, *overrides: str, devices: int = 2, more: tuple = ()
) -> subprocess.Popen:
    """``python -m trainer train``, which forks its ranks."""
    sets = [part for override in (f"launch.devices={devices}", *overrides) for part in ("--set", override)]
    command = [sys.executable, "-m", "trainer", "train", str(recipe), "--data", str(data), "--run-dir", str(run_dir)]
    log = run_dir.with_suffix(".log").open("a")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*command, *sets, *more], stdout=log, stderr=subprocess.STDOUT, env=environment)


def run(recipe: Path, data: Path, run_dir: Path, *overrides: str, devices: int = 2, more: tuple = ()) -> TrainResult:
    code = start(recipe, data, run_dir, *overrides, devices=devices, more=more).wait(timeout=180)
    assert code == 0, run_dir.with_suffix(".log").read_text()[-3000:]
    return TrainResult.model_validate_json((run_dir / "result.json").read_bytes())


def interrupted(process: subprocess.Popen, run_dir: Path, number: signal.Signals) -> list[psutil.Process]:
    """Send ``number`` to ``process`` once there is a checkpoint; what was started by it."""
    deadline = time.monotonic() + 120
    while not list(run_dir.glob("checkpoints/*/COMPLETE")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    process.wait(timeout=60)
    return children


def test_forked_ranks_stop_when_told_leave_nobody_behind_and_go_on_elsewhere(recipe, delivery, tmp_path):
    whole = run(recipe, delivery, tmp_path / "whole", *LONG)
    assert whole.world_size == 2
    told, store = tmp_path / "told", tmp_path / "store"
    process = start(recipe, delivery, told, *LONG, more=("--copy-to", str(store)))
    children = interrupted(process, told, signal.SIGTERM)
    assert process.returncode == 75
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert Failure.model_validate_json((told / "failure.json").read_bytes()).kind == "stopped"
    # A new host has the recipe, the data and the store.
    resumed = run(recipe, delivery, tmp_path / "elsewhere", *LONG, more=("--copy-to", str(store)))
    assert resumed.resumed_from_step > 0
    assert resumed.state_sha256 == whole.state_sha256


def test_forked_ranks_die_with_their_parent_and_the_run_goes_on_to_the_same_state(recipe, delivery, tmp_path):
    whole = run(recipe, delivery, tmp_path / "whole", *LONG, *SHARDED)
    cut = tmp_path / "cut"
    children = interrupted(start(recipe, delivery, cut, *LONG, *SHARDED), cut, signal.SIGKILL)
    assert not psutil.wait_procs(children, timeout=10)[1]
    fewer = tmp_path / "fewer"
    shutil.copytree(cut, fewer)
    resumed = run(recipe, delivery, cut, *LONG, *SHARDED)
    assert resumed.resumed_from_step > 0
    assert resumed.state_sha256 == whole.state_sha256
    # The shards of two ranks are one rank's whole tensors.
    alone = run(recipe, delivery, fewer, *LONG, *SHARDED, devices=1)
    assert (alone.world_size, alone.resumed_from_step > 0, alone.global_step) == (1, True, whole.global_step)
    assert alone.epochs[-1].losses["total"] == pytest.approx(whole.epochs[-1].losses["total"], rel=0.3)


def test_sharded_and_replicated_ranks_learn_alike(recipe, delivery, tmp_path):
    short = ("training.epochs=1", "optim.accumulate=2")
    replicated = run(recipe, delivery, tmp_path / "ddp", *short)
    sharded = run(recipe, delivery, tmp_path / "fsdp", *short, "launch.strategy=fsdp")
    assert sharded.parameters == replicated.parameters
    for name, loss in replicated.epochs[0].losses.items():
        assert sharded.epochs[0].losses[name] == pytest.approx(loss, rel=1e-3)


def test_a_rank_that_refuses_its_input_ends_all_with_the_reason(recipe, delivery, tmp_path):
    process = start(recipe, delivery, tmp_path / "run", "data.batch_size=7")
    assert process.wait(timeout=60) == 2
    assert (tmp_path / "run.log").read_text().count("data.batch_size 6 or 8") == 1


def test_three_ranks_go_on_to_the_same_state(recipe, delivery, tmp_path):
    # Of two numbers the order does not matter; the sum of three depends on where DDP has laid the gradient.
    three = ("data.batch_size=6", "training.epochs=1", "training.checkpoint_every=2")
    whole = run(recipe, delivery, tmp_path / "whole", *three, devices=3)
    interrupted(start(recipe, delivery, tmp_path / "cut", *three, devices=3), tmp_path / "cut", signal.SIGKILL)
    resumed = run(recipe, delivery, tmp_path / "cut", *three, devices=3)
    assert 0 < resumed.resumed_from_step < whole.global_step
    assert resumed.state_sha256 == whole.state_sha256
