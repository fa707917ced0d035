"""A run told to W&B: all of it is there, once, whoever died; a training is the same with and without."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.wandb import Run, WandbServer, wandb_server
from tests.planted import ENVIRONMENT, found_below
from tests.wandb_reading import read_all, rows_of, wandb_files
from trainer.__main__ import main
from trainer.contract.files import write_json, write_text
from trainer.contract.results import TrainResult
from trainer.contract.tracking import (
    Begin,
    End,
    Made,
    Record,
    Row,
    append,
    effective_mode,
    log_of,
    read_spool,
    spool_of,
    sync_command,
)
from trainer.contract.train_config import TrainConfig, read_config
from trainer.contract.yaml_io import dump_yaml
from trainer.engine.run import train
from trainer.tracking import Tracker, catch_up, start_worker

RUN_ID = "abcd1234"
TINY = ("data.workers=0", "launch.devices=1", "guards.determinism.enabled=false", "tracking.every=1")
PROVENANCE = {
    "dataset": "ds-0123456789ab",
    "dataset_dvc": "d41d8cd98f00b204e9800998ecf8427e.dir",
    "directory": "/nowhere",
    "manifests": {"golden_train.manifest": "a" * 64},
    "training_set": "b" * 64,
    "window": "2026-01-05",
    "windows": ["2026-01-05"],
    "mined_slices": [],
    "git_sha": "c" * 40,
    "git_dirty": False,
    "lock_sha256": "d" * 64,
    "image": "trainer@sha256:" + "e" * 64,
}


@contextlib.contextmanager
def environment(**values: str | None) -> Iterator[None]:
    before = dict(os.environ)
    for name, value in values.items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def tracked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE")


def config_of(recipe: Path, *overrides: str) -> TrainConfig:
    return read_config(recipe, [*TINY, *overrides], environment={})


@pytest.fixture(scope="module")
def whole(recipe: Path, delivery: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainResult]:
    """A training as the asset graph starts it, its evaluation, an export and its card; secrets were all around."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    with environment(WANDB_MODE=None, **ENVIRONMENT):
        pinned = run_dir.parent / "dataset"
        write_json(pinned / "facts.json", {})  # as a dataset version has it
        write_json(run_dir / "provenance.json", {**PROVENANCE, "directory": str(pinned)})
        names = {"name": "tune1-cv0-run-f0s42", "group": "tune1", "job_type": "tune1-cv0"}
        config = config_of(recipe, "tracking.system_seconds=0.1")
        result = train(config, delivery, run_dir, RUN_ID, tracked=names)
        best, out = str(run_dir / "best.pt"), str(run_dir / "evaluation")
        assert main(["evaluate", best, "--data", str(delivery), "--out", out, "--split", "val"]) == 0
        write_text(run_dir / "model_card.md", "# A card\n")
        append(run_dir, Made(what="card", path="model_card.md"))
        assert main(["track", str(run_dir)]) == 0
    return run_dir, result


@pytest.mark.slow
def test_wandbs_own_reader_finds_all_of_an_offline_run(whole: tuple[Path, TrainResult]) -> None:
    run_dir, result = whole
    training, *later = read_all(run_dir)
    run = training.run
    assert (run.run_id, run.display_name, run.run_group, run.job_type, run.project) == (
        *(RUN_ID, "tune1-cv0-run-f0s42", "tune1", "tune1-cv0", "tests"),
    )
    assert training.config["optim"]["lr"] == 0.01
    assert training.config["lineage"]["git_sha"] == "c" * 40
    assert training.config["lineage"]["image"] == PROVENANCE["image"]
    assert "exit" in training.kinds
    assert "stats" in training.kinds.union(*(session.kinds for session in later)), "of the host, a sample a moment"
    assert [row["_step"] for row in training.history] == list(range(1, 13))
    for row in training.history:
        assert {"train/loss/detection", "train/loss/segmentation", "train/loss/total", "train/grad_norm"} <= set(row)
    assert training.history[0]["train/lr"] == pytest.approx(0.005)  # the first of two steps of warm-up
    ends = [row for row in training.history if "epoch" in row]
    assert [(row["_step"], row["epoch"]) for row in ends] == [(6, 1), (12, 2)]
    for row, epoch in zip(ends, result.epochs, strict=True):
        assert row["val/segmentation/mIoU"] == epoch.metrics["segmentation/mIoU"]
        assert row["epoch/loss/total"] == pytest.approx(epoch.losses["total"])
        steps = [one["train/loss/total"] for one in training.history[6 * epoch.epoch : 6 * epoch.epoch + 6]]
        assert sum(steps) / 6 == pytest.approx(epoch.losses["total"], rel=1e-5)
    assert training.summary["result/state_sha256"] == result.state_sha256
    assert training.summary["gates/finite/passed"] is True
    assert training.summary["telemetry/bottleneck"] == result.telemetry.bottleneck  # type: ignore[union-attr]

    artifacts = {one.name: one for session in (training, *later) for one in session.artifacts}
    assert artifacts["dataset"].use_after_commit
    assert json.loads(artifacts["dataset"].metadata)["dvc"] == PROVENANCE["dataset_dvc"]
    assert artifacts["training-set"].use_after_commit
    checkpoint = artifacts[f"checkpoint-{RUN_ID}"]
    assert checkpoint.type == "model"
    assert not checkpoint.use_after_commit
    assert {one.path: one.ref for one in checkpoint.manifest.contents}["best.pt"] == (run_dir / "best.pt").as_uri()
    assert json.loads(checkpoint.metadata)["git_sha"] == "c" * 40
    assert {f"evaluation-{RUN_ID}", f"model-card-{RUN_ID}"} <= set(artifacts)

    (charts,) = [row for session in later for row in session.history]
    assert charts["_step"] == 13
    for name in ("val/detection/precision_recall_table", "val/segmentation/roc_table", "slices"):
        assert charts[f"{name}._type"] == "table-file"
    pictures = [path for session in later for path in session.files if path.endswith(".jpg")]
    assert len(pictures) == 2
    for session, file in zip(read_all(run_dir), wandb_files(run_dir), strict=True):
        assert all((file.parent / "files" / path).is_file() for path in session.files)


@pytest.mark.slow
def test_no_secret_is_in_anything_that_a_tracked_run_leaves(whole: tuple[Path, TrainResult]) -> None:
    run_dir, _ = whole
    files = [path for path in run_dir.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    assert found_below([run_dir]) == {}
    for path in wandb_files(run_dir):
        # Nor what W&B records by itself: the command line, where the code is from.
        content = path.read_bytes()
        assert sys.executable.encode() not in content, path
        assert b"git@" not in content, path


def synced(server: WandbServer, run_dir: Path) -> Run:
    """The run at the server once ``wandb sync`` has sent it."""
    program, runs = Path(sys.executable).with_name("wandb"), sorted((run_dir / "tracking/wandb").glob("offline-run-*"))
    passed = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    account = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": server.url, "HOME": str(run_dir), "NETRC": os.devnull}
    done = subprocess.run(
        [program, "sync", "--yes", *runs], env=passed | account, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return server.runs[RUN_ID]


@pytest.mark.slow
def test_wandb_sync_sends_all_of_it_as_one_run(whole: tuple[Path, TrainResult]) -> None:
    run_dir, result = whole
    assert sync_command(run_dir).startswith("wandb sync ")
    local = rows_of(run_dir)
    with wandb_server() as server:
        run = synced(server, run_dir)
    assert [row["_step"] for row in run.history] == [row["_step"] for row in local] == list(range(1, 14))
    assert run.config["optim"]["lr"] == 0.01
    assert run.fields["groupName"] == "tune1"
    assert run.fields["jobType"] == "tune1-cv0"
    assert run.summary["result/state_sha256"] == result.state_sha256
    assert run.exit_code == 0
    names = {one.name: one for one in server.artifacts.values()}
    assert all(one.committed for one in names.values())
    assert {server.artifacts[key].name for key in run.used} == {"dataset", "training-set"}
    manifest = names[f"checkpoint-{RUN_ID}"].manifest["contents"]
    assert manifest["best.pt"]["ref"] == (run_dir / "best.pt").as_uri()
    assert names[f"model-card-{RUN_ID}"].files["model_card.md"] == b"# A card\n"
    assert (
        names[f"evaluation-{RUN_ID}"].files["eval_report.json"]
        == (run_dir / "evaluation/eval_report.json").read_bytes()
    )
    assert len([name for name in run.files if name.endswith(".jpg")]) == 2


def begun(run_dir: Path, recipe: Path, *overrides: str) -> Path:
    """A run directory as a training that has just begun leaves it."""
    config = config_of(recipe, *overrides)
    write_text(run_dir / "train.yaml", dump_yaml(config.model_dump(mode="json")))
    write_text(run_dir / "run.yaml", dump_yaml({"run_id": RUN_ID, "config_digest": "c", "data_digest": "d" * 64}))
    return run_dir


def attempt(first: int, last: int, *, ends: str | None, epoch_of: int = 6) -> list[Record]:
    """What a training tells that begins after step ``first`` and comes to ``last``."""
    told: list[Record] = [Begin(step=first, data="/data")]
    for step in range(first + 1, last + 1):
        told.append(Row(step=step, values={"train/loss/total": 1 / step}))
        if step % epoch_of == 0:
            told.append(Row(step=step, values={"epoch": step / epoch_of}))
    return told if ends is None else [*told, End(state=ends)]  # type: ignore[arg-type]


def nothing_said(text: str) -> None:
    raise AssertionError(text)


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run_and_no_step_is_told_twice(recipe: Path, tmp_path: Path) -> None:
    """The first attempt came to step 8 and was killed, the second begins after its checkpoint at 4."""
    run_dir = begun(tmp_path / "run", recipe)
    append(run_dir, *attempt(0, 8, ends=None))
    assert catch_up(run_dir, "offline", nothing_said)
    assert [row["_step"] for row in rows_of(run_dir)] == list(range(1, 8))  # the 8th may get an epoch's figures yet
    with open(spool_of(run_dir), "ab") as stream:
        stream.write(b'{"kind": "row", "st')  # killed while it wrote
    append(run_dir, *attempt(4, 12, ends="finished"))
    assert catch_up(run_dir, "offline", nothing_said)
    first, second = read_all(run_dir)
    assert first.run.run_id == second.run.run_id == RUN_ID
    rows = rows_of(run_dir)
    assert [row["_step"] for row in rows] == list(range(1, 13))
    assert [row["train/loss/total"] for row in rows] == pytest.approx([1 / step for step in range(1, 13)])
    assert [row["_step"] for row in rows if "epoch" in row] == [6, 12]
    before = len(wandb_files(run_dir))
    assert catch_up(run_dir, "offline", nothing_said)
    assert len(wandb_files(run_dir)) == before  # there was nothing new
    with wandb_server() as server:
        assert [row["_step"] for row in synced(server, run_dir).history] == list(range(1, 13))


@pytest.mark.slow
def test_an_epoch_that_ends_after_the_stop_joins_its_step(recipe: Path, tmp_path: Path) -> None:
    run_dir = begun(tmp_path / "run", recipe)
    stopped = [one for one in attempt(0, 6, ends="stopped") if not (isinstance(one, Row) and "epoch" in one.values)]
    append(run_dir, *stopped)
    assert catch_up(run_dir, "offline", nothing_said)
    append(run_dir, Begin(step=6, data="/data"), Row(step=6, values={"epoch": 1.0}), End(state="finished"))
    assert catch_up(run_dir, "offline", nothing_said)
    rows = rows_of(run_dir)
    assert [row["_step"] for row in rows] == list(range(1, 7))
    assert rows[-1]["epoch"] == 1
    assert rows[-1]["train/loss/total"] == pytest.approx(1 / 6)


@pytest.mark.slow
def test_what_a_killed_worker_did_not_tell_the_next_one_does(recipe: Path, tmp_path: Path) -> None:
    run_dir = begun(tmp_path / "run", recipe)
    worker = start_worker(run_dir, "offline", "--follow")
    append(run_dir, *attempt(0, 50, ends=None))
    until = time.monotonic() + 60
    while not wandb_files(run_dir) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    append(run_dir, *attempt(50, 100, ends="finished"))
    assert catch_up(run_dir, "offline", nothing_said)
    assert [row["_step"] for row in rows_of(run_dir)] == list(range(1, 101))


BROKEN = {
    "hangs": "import time\ntime.sleep(600)\n",
    "dies": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
    "raises": "raise RuntimeError('no W&B today')\n",
}


@pytest.fixture(scope="module")
def untracked(recipe: Path, delivery: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    run_dir = tmp_path_factory.mktemp("untracked") / "run"
    return train(config_of(recipe, "tracking.mode=disabled"), delivery, run_dir, RUN_ID)


@pytest.mark.slow
def test_a_training_is_bit_for_bit_the_same_with_tracking(
    whole: tuple[Path, TrainResult], untracked: TrainResult
) -> None:
    assert whole[1].state_sha256 == untracked.state_sha256
    assert [epoch.metrics for epoch in whole[1].epochs] == [epoch.metrics for epoch in untracked.epochs]


@pytest.mark.slow
@pytest.mark.parametrize("how", BROKEN)
def test_a_training_does_not_mind_what_becomes_of_wandb(
    how: str,
    recipe: Path,
    delivery: Path,
    untracked: TrainResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    write_text(tmp_path / "broken" / "wandb" / "__init__.py", BROKEN[how])
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'broken'}:{Path(__file__).parents[2]}")
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr("trainer.engine.callbacks.tracking.CLOSE_S", 3.0)
    run_dir, began = tmp_path / "run", time.monotonic()
    result = train(config_of(recipe), delivery, run_dir, RUN_ID)
    assert result.state_sha256 == untracked.state_sha256
    assert time.monotonic() - began < untracked.run_seconds + 30  # type: ignore[operator]
    said = capfd.readouterr().out
    assert said.count("experiment tracking") == 1
    assert f"python -m trainer track {run_dir}" in said
    steps = [one.step for one in read_spool(run_dir) if isinstance(one, Row) and "train/grad_norm" in one.values]
    assert steps == list(range(1, 13))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    if how == "dies":
        assert catch_up(run_dir, "offline", nothing_said), log_of(run_dir).read_text()
        assert [row["_step"] for row in rows_of(run_dir)] == list(range(1, 13))


@pytest.mark.slow
def test_a_training_does_not_mind_a_directory_that_cannot_be_written(
    recipe: Path,
    delivery: Path,
    untracked: TrainResult,
    tmp_path: Path,
    tracked: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_text(tmp_path / "run" / "tracking", "in the way")
    result = train(config_of(recipe), delivery, tmp_path / "run", RUN_ID)
    assert result.state_sha256 == untracked.state_sha256
    said = capsys.readouterr().out
    assert "experiment tracking did not start" in said
    # A beginning, 12 steps, 2 epochs with their gates, the gates, the result and the end.
    assert "20 records were not kept" in said


def test_a_disk_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.tracking.start_worker", lambda *_: (_ for _ in ()).throw(OSError("none here")))
    spool_of(tmp_path).parent.mkdir()
    os.mkfifo(spool_of(tmp_path))  # to open it takes until somebody reads
    said: list[str] = []
    tracker, began = Tracker(tmp_path, "offline", said.append, limit=3), time.monotonic()
    for step in range(1, 8):
        tracker.tell(Row(step=step, values={}))
    assert time.monotonic() - began < 0.5
    tracker.close(0.4)
    assert time.monotonic() - began < 2
    assert "records were not kept" in said[-1]
    with open(spool_of(tmp_path), "rb"):  # let the thread go
        pass


@pytest.mark.parametrize(
    ("asked", "told", "found"),
    [
        ("offline", None, "offline"),
        ("offline", "online", "offline"),
        ("online", "offline", "offline"),
        ("online", "disabled", "disabled"),
        ("online", "online", "online"),
        ("disabled", "online", "disabled"),
        ("offline", "dryrun", "offline"),
    ],
)
def test_the_environment_makes_tracking_more_silent_never_louder(asked: Any, told: str | None, found: str) -> None:
    assert effective_mode(asked, {} if told is None else {"WANDB_MODE": told}) == found


@pytest.mark.slow
def test_online_it_goes_to_the_server_and_goes_on_there(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = begun(tmp_path / "run", recipe, "tracking.mode=online")
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        append(run_dir, *attempt(0, 8, ends=None))
        assert catch_up(run_dir, "online", nothing_said), log_of(run_dir).read_text()
        # Another host, to which the run's checkpoints were fetched, but nothing else.
        other = begun(tmp_path / "other", recipe, "tracking.mode=online")
        append(other, *attempt(4, 12, ends="finished"))
        assert catch_up(other, "online", nothing_said), log_of(other).read_text()
        run = server.runs[RUN_ID]
    assert [row["_step"] for row in run.history] == list(range(1, 13))
    assert {server.artifacts[key].name for key in run.used} == {"training-set"}
    assert not list(run_dir.rglob("offline-run-*"))
    assert len(server.keys) == 1
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"k" * 40 not in path.read_bytes(), path


@pytest.mark.slow
def test_online_without_a_key_it_is_kept_offline(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    run_dir = begun(tmp_path / "run", recipe, "tracking.mode=online")
    append(run_dir, *attempt(0, 3, ends="finished"))
    assert catch_up(run_dir, "online", nothing_said)
    assert [row["_step"] for row in rows_of(run_dir)] == [1, 2, 3]
    assert "no WANDB_API_KEY" in log_of(run_dir).read_text()
