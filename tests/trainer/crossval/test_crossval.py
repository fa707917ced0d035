"""Whole cross-validations, as they are started by hand."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from trainer.contract.cross_validation import read_plan
from trainer.contract.names import read_identity
from trainer.contract.results import Failure, TrainResult
from trainer.contract.run_infos import read_score
from trainer.data.staging import data_directory

pytestmark = pytest.mark.slow

SHORT = (
    "training.epochs=3", "training.checkpoint_every=2", "data.workers=0", "launch.devices=1",
    "guards.determinism.enabled=false", "telemetry.enabled=false",
)  # fmt: skip
KFOLD = ("--folds", "2", "--method", "kfold", "--seeds", "1", "--name", "cv")


@pytest.fixture(scope="module")
def data(delivery, tmp_path_factory) -> Path:
    return data_directory(delivery, tmp_path_factory.mktemp("data"), print)


@pytest.fixture(scope="module")
def command(recipe, data):
    """``trainer crossval`` on ``data`` in an artefact directory."""

    def made(root: Path, *options: str, overrides: tuple[str, ...] = SHORT) -> list[str]:
        asked = [text for override in overrides for text in ("--set", override)]
        trainer = [sys.executable, "-m", "trainer", "crossval"]
        return [*trainer, str(recipe), "--data", str(data), "--artifact-dir", str(root), *options, *asked]

    return made


def run(command: list[str], expected: int = 0) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout


def results(directory: Path) -> dict[str, TrainResult]:
    plan = read_plan(directory)
    files = {run.key: directory / plan.directory_of(run) / "result.json" for run in plan.runs}
    return {key: TrainResult.model_validate_json(file.read_bytes()) for key, file in files.items() if file.is_file()}


@pytest.fixture(scope="module")
def undisturbed(command, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    run(command(root, *KFOLD))
    return root / "_cross_validations" / "cv"


def test_each_run_is_named_and_its_metrics_are_in_the_table(undisturbed):
    plan, table = read_plan(undisturbed), pd.read_parquet(undisturbed / "run_infos.parquet")
    assert table["run_name"].tolist() == ["cv-run-f0s42", "cv-run-f1s42"]
    expected = [result.best_metrics["segmentation/mIoU"] for result in results(undisturbed).values()]
    assert table["segmentation/mIoU"].tolist() == expected
    assert table["score"].tolist() == [pytest.approx(sum(expected) / 2)] * 2
    for planned, duration, checkpoint in zip(plan.runs, table["duration"], table["checkpoint"], strict=True):
        identity = read_identity(undisturbed / plan.directory_of(planned))
        assert identity == plan.identity_of(planned)
        assert (undisturbed / checkpoint).is_file()
        assert duration >= results(undisturbed)[planned.key].train_seconds


def test_one_fold_with_one_seed_is_a_plain_run(recipe, data, command, tmp_path):
    run(command(tmp_path, "--name", "plain"))
    plain = [sys.executable, "-m", "trainer", "train", str(recipe), "--data", str(data), "--name", "one"]
    asked = [text for override in SHORT for text in ("--set", override)]
    run([*plain, "--artifact-dir", str(tmp_path), *asked])
    (place,) = (tmp_path / "_runs").glob("one-*")
    alone = TrainResult.model_validate_json((place / "result.json").read_bytes())
    (result,) = results(tmp_path / "_cross_validations" / "plain").values()
    assert result.state_sha256 == alone.state_sha256
    assert result.data_digest == alone.data_digest


def interrupted(command: list[str], line: str, number: signal.Signals) -> int:
    """The exit code of ``command`` after it got the signal when it had said what begins with ``line``."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for said in process.stdout:
            if said.startswith(line):
                os.kill(process.pid, number)
                break
        process.stdout.read()
    return process.returncode


def test_ended_midway_and_started_again_it_trains_what_is_missing_to_the_same_end(command, undisturbed, tmp_path):
    directory = tmp_path / "_cross_validations" / "cv"
    assert interrupted(command(tmp_path, *KFOLD), "[f0s42] epoch 2/", signal.SIGTERM) == 75
    assert Failure.model_validate_json((directory / "failure.json").read_bytes()).kind == "stopped"
    assert results(directory) == {}
    again = command(tmp_path, *KFOLD, "--resume")
    assert interrupted(again, "[f1s42] epoch 2/", signal.SIGKILL) == -signal.SIGKILL
    assert list(results(directory)) == ["f0s42"]
    assert read_score(directory) is None
    said = run(again)
    assert "cv-run-f0s42 has its result already" in said
    assert "[f0s42]" not in said
    ended = results(directory)
    assert all(result.resumed_from_step for result in ended.values())
    whole = results(undisturbed)
    assert {key: result.state_sha256 for key, result in ended.items()} == {
        key: result.state_sha256 for key, result in whole.items()
    }
    assert read_score(directory).score == read_score(undisturbed).score
    assert not (directory / "failure.json").exists()


def test_a_run_that_fails_beside_others_is_named_and_can_be_trained_alone(command, undisturbed, tmp_path):
    directory, parallel = tmp_path / "_cross_validations" / "cv", (*SHORT, "launch.devices=2")
    run(command(tmp_path, *KFOLD, "--only", "f1s42", "--parallel", "cv-parallel", overrides=parallel))
    assert read_score(directory) is None
    plan = read_plan(directory)
    place = directory / plan.directory_of(plan.runs[0])
    place.mkdir()
    (place / "run.yaml").write_text("run_id: zzzzzzzz\n")  # as if another training had been there
    said = run(command(tmp_path, *KFOLD, "--resume"), expected=2)
    assert "unstable: cv-run-f0s42" in said
    failure = json.loads((directory / "failure.json").read_bytes())
    assert failure["kind"] == "bad_input"
    assert "cv-run-f0s42: the run directory holds another run" in failure["message"]
    assert [one.run_name for one in read_score(directory).failed] == ["cv-run-f0s42"]
    (place / "run.yaml").unlink()
    run(command(tmp_path, *KFOLD, "--only", "f0s42"))
    result = read_score(directory)
    assert not result.score_is_unstable
    assert result.score == read_score(undisturbed).score
