"""Real trainings under torchrun, two ranks with gloo."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from trainer.contract.ports import free_port
from trainer.contract.results import Failure, TrainResult

pytestmark = pytest.mark.slow

TORCHRUN = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2"]


def command(recipe: Path, data: Path, run_dir: Path, *overrides: str) -> list[str]:
    sets = [part for override in overrides for part in ("--set", override)]
    arguments = ["train", str(recipe), "--data", str(data), "--run-dir", str(run_dir), *sets]
    return [*TORCHRUN, "--master-port", str(free_port()), "-m", "trainer", *arguments]


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(arguments, stdout=log.open("a"), stderr=subprocess.STDOUT, env=environment)


def run(recipe: Path, data: Path, run_dir: Path, *overrides: str) -> TrainResult:
    log = run_dir.with_suffix(".log")
    assert start(command(recipe, data, run_dir, *overrides), log).wait(timeout=90) == 0, log.read_text()[-3000:]
    return TrainResult.model_validate_json((run_dir / "result.json").read_bytes())


def wait_for_checkpoint(run_dir: Path) -> None:
    wait_for(lambda: bool(list(run_dir.glob("checkpoints/*/COMPLETE"))), "no checkpoint was written")


def wait_for(happened: Callable[[], bool], otherwise: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed(recipe, delivery, tmp_path_factory) -> TrainResult:
    return run(recipe, delivery, tmp_path_factory.mktemp("undisturbed") / "run", "training.epochs=4")


def test_the_state_is_the_same_with_one_and_with_four_loader_workers(undisturbed, recipe, delivery, tmp_path):
    four = run(recipe, delivery, tmp_path / "four", "training.epochs=4", "data.workers=4")
    assert four.state_sha256 == undisturbed.state_sha256


def test_training_learns_and_says_so(undisturbed):
    losses = [epoch.losses["total"] for epoch in undisturbed.epochs]
    assert losses[-1] < losses[0] / 2
    assert undisturbed.best_metric is not None
    assert undisturbed.best_metric > 0.5
    assert undisturbed.world_size == 2
    assert undisturbed.global_step == 24
    assert undisturbed.samples_per_second > 0


def test_a_run_killed_with_its_torchrun_leaves_no_rank_and_goes_on_to_the_same_state(
    undisturbed, recipe, delivery, tmp_path
):
    run_dir = tmp_path / "killed"
    process = start(command(recipe, delivery, run_dir, "training.epochs=4"), tmp_path / "killed.log")
    wait_for_checkpoint(run_dir)
    tree = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    _, alive = psutil.wait_procs(tree, timeout=10)
    assert not alive
    resumed = run(recipe, delivery, run_dir, "training.epochs=4")
    assert resumed.resumed_from_step is not None
    assert 0 < resumed.resumed_from_step < 24
    assert resumed.state_sha256 == undisturbed.state_sha256
    assert [epoch.losses for epoch in resumed.epochs] == [pytest.approx(epoch.losses) for epoch in undisturbed.epochs]


def test_a_run_told_to_stop_saves_says_so_and_goes_on_to_the_same_state(undisturbed, recipe, delivery, tmp_path):
    run_dir = tmp_path / "stopped"
    process = start(command(recipe, delivery, run_dir, "training.epochs=4"), tmp_path / "stopped.log")
    wait_for_checkpoint(run_dir)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) != 0
    assert Failure.model_validate_json((run_dir / "failure.json").read_bytes()).kind == "stopped"
    resumed = run(recipe, delivery, run_dir, "training.epochs=4")
    assert resumed.state_sha256 == undisturbed.state_sha256
    assert not (run_dir / "failure.json").exists()


def test_a_run_directory_of_another_recipe_is_refused(recipe, delivery, tmp_path):
    run_dir, log = tmp_path / "run", tmp_path / "run.log"
    run(recipe, delivery, run_dir, "training.epochs=1")
    assert start(command(recipe, delivery, run_dir, "training.epochs=1", "optim.lr=0.5"), log).wait(timeout=60) != 0
    failure = json.loads((run_dir / "failure.json").read_text())
    assert failure["kind"] == "bad_input"
    assert "config_digest" in failure["message"]


def test_a_loss_that_is_not_finite_ends_the_run_before_anything_is_saved(recipe, delivery, tmp_path):
    run_dir, log = tmp_path / "run", tmp_path / "run.log"
    exploding = command(
        recipe, delivery, run_dir, "optim.lr=1e30", "optim.warmup_steps=0", "training.checkpoint_every=3"
    )
    assert start(exploding, log).wait(timeout=60) != 0
    failure = json.loads((run_dir / "failure.json").read_text())
    assert failure["kind"] == "not_finite"
    assert "optim.lr" in failure["message"]
    assert not (run_dir / "best.pt").exists()


def test_a_run_directory_in_use_is_refused_and_free_again_when_its_training_is_gone(recipe, delivery, tmp_path):
    run_dir = tmp_path / "run"
    first = start(command(recipe, delivery, run_dir, "training.epochs=400"), tmp_path / "first.log")
    wait_for_checkpoint(run_dir)
    for busy in (True, False):
        log = tmp_path / f"second-{busy}.log"
        second = start(command(recipe, delivery, run_dir, "training.epochs=400"), log)
        if busy:
            assert second.wait(timeout=60) != 0
            first.kill()
            first.wait()
        else:
            wait_for(lambda log=log: "from step " in log.read_text(), "the second training did not begin")
            second.kill()
        assert ("is taken" in log.read_text()) == busy


def test_a_monitor_that_no_task_has_is_refused_before_training(recipe, delivery, tmp_path):
    run_dir, log = tmp_path / "run", tmp_path / "run.log"
    assert start(command(recipe, delivery, run_dir, "training.monitor=segmentation/mIuO"), log).wait(timeout=60) != 0
    assert "found segmentation/mIuO, expected a metric of its tasks, like detection/AP" in log.read_text()
