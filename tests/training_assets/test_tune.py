"""``tune``: a sweep without Dagster, killed and gone on with."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from trainer.contract.errors import ContractError
from trainer.contract.train_config import read_config
from training_assets.commands.tune import Asked, begun, refuse_ddp_in_a_pool, tune
from training_assets.sweeps.journal import read_trials

ROOT = Path(__file__).parents[2]
SWEEP: dict[str, Any] = {
    "objective": "segmentation/mIoU",
    "strategy": "random",
    "epochs": 2,
    "budget": {"max_trials": 2},
    "parameters": {"optim.lr": {"distribution": "log_uniform_values", "min": 1e-3, "max": 1e-1}},
}


@pytest.fixture
def asked(tmp_path: Path, recipe: Path, delivery: Path) -> Asked:
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(SWEEP))
    return Asked(file, recipe, delivery, tmp_path / "tunes", name="night-owl-1", resume=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_in_its_second_trial_it_goes_on_and_trains_nothing_twice(asked: Asked) -> None:
    command = ["tune", str(asked.file), "--recipe", str(asked.recipe), "--data", str(asked.data)]
    command += ["--artifact-dir", str(asked.artifacts), "--name", "night-owl-1", "--resume"]
    process = subprocess.Popen([sys.executable, "-m", "training_assets", *command], cwd=ROOT)
    first, second = (asked.artifacts / "night-owl-1" / f"night-owl-1-cv{number}" for number in (0, 1))
    until(lambda: (first / "run_infos.parquet").exists() and list(second.glob("*/run.yaml")))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in first.glob("*/result.json")}
    assert len(before) == 1
    assert tune(asked).code == 0
    assert {path: path.stat().st_mtime_ns for path in first.glob("*/result.json")} == before
    assert len(list(second.glob("*/result.json"))) == 1
    trials = list(read_trials(asked.artifacts / "_tunes" / "night-owl-1"))
    assert [trial.state for trial in trials] == ["completed", "completed"]
    for trial, directory in zip(trials, (first, second), strict=True):
        (row,) = pd.read_parquet(directory / "run_infos.parquet").itertuples()
        assert row.run_name == f"night-owl-1-cv{trial.id}-run-f0s42"
        assert not row.score_is_unstable
        assert trial.metrics["score"] == pytest.approx(row.score)


def until(condition: Any, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def test_a_name_that_is_taken_goes_on_only_if_that_is_asked_for(asked: Asked) -> None:
    begun(asked)
    with pytest.raises(ContractError, match=r"this name is taken[\s\S]*--resume"):
        tune(replace(asked, resume=False))
    asked.file.write_text(yaml.safe_dump({**SWEEP, "epochs": 3}))
    with pytest.raises(ContractError, match="goes on with what it was begun with"):
        tune(asked)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_distributed_training_inside_a_parallel_pool_is_refused(recipe: Path, strategy: str) -> None:
    config = read_config(recipe, [f"launch.strategy={strategy}"])
    with pytest.raises(ContractError, match=rf"field 'launch.strategy': found {strategy}, expected auto"):
        refuse_ddp_in_a_pool(config, "tune-parallel")
    refuse_ddp_in_a_pool(config, "serial")
