"""Who goes first, what is tried again and what is not: with a real daemon, code server and run workers."""

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
import yaml

from tests.training_assets.daemons import ROOT, Daemon, launched, prepare_home, pretending_workspace, until
from training_assets.control import Plan, delivery_config, training_request
from training_assets.queue import submit
from training_assets.records import Checkpoint

WINDOW = "2026-01-12"


@pytest.fixture
def place(graph: Any, profile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A place with a checked delivery, and a home with the shipped settings that looks for lost runs more often."""
    home = tmp_path / "home"
    prepare_home(home, max_concurrent_runs=1)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    for name in ("store", "inbox", "recipes"):
        monkeypatch.setenv(f"TRAINING_ASSETS_{name.upper()}", str(getattr(profile, name)))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        place = type(graph)(profile, instance, launcher=graph.defs.resources["launcher"])
        assert place.run("dataset_version", "eval_shards").success
        (place.delivery / "_SUCCESS").unlink()  # so that its sensor has nothing to do
        yield place


def runs(place: Any) -> list[dg.RunRecord]:
    """All that were put into the queue, in the order of their start."""
    records = place.instance.get_run_records(dg.RunsFilter(tags={"training_assets/cause": list(CAUSES)}))
    return sorted(records, key=lambda record: record.start_time or 0.0)


CAUSES = ("manual", "nightly", "backfill")


@pytest.mark.slow
def test_the_most_urgent_run_goes_first_and_neither_bad_data_nor_a_gate_is_tried_again(
    place: Any, tmp_path: Path
) -> None:
    assert place.run("staged_shards", windows=("2026-01-05", WINDOW)).success
    workspace = pretending_workspace(tmp_path / "workspace.yaml")
    place.edit("golden_train.manifest", lambda text: text.replace('"category": "car"', '"category": "tram"', 1))
    too_high = Plan(
        recipe="tiny",
        window=WINDOW,
        cause="nightly",
        because="test",
        overrides=("release.targets={segmentation/mIoU: 0.9}",),
    )
    # In the queue before anybody works on it, the least urgent first.
    submit(dg.RunRequest(job_name="staging_job", partition_key=WINDOW, tags={"dagster/backfill": "abc"}), workspace)
    submit(training_request(too_high), workspace)
    bad_data = delivery_config("delivery")
    submit(dg.RunRequest(job_name="dataset_job", run_config=bad_data), workspace)
    daemon = Daemon(workspace)
    try:
        until(lambda: all(record.dagster_run.is_finished for record in runs(place)), 120)
        time.sleep(5)  # a run that is to be tried again is in the queue by then
    finally:
        daemon.close()
    ended = [(one.dagster_run.job_name, one.dagster_run.status.value) for one in runs(place)]
    assert ended == [("dataset_job", "FAILURE"), ("tiny_job", "FAILURE"), ("staging_job", "SUCCESS")]
    for record in runs(place)[:2]:
        events = place.instance.all_logs(record.dagster_run.run_id, of_type=dg.DagsterEventType.STEP_UP_FOR_RETRY)
        assert not events


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_whose_machine_was_lost_is_started_once_more_and_goes_on_from_its_checkpoint(
    place: Any, profile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINING_ASSETS_SENSOR_SECONDS", "3")
    recipe = profile.recipes / "tiny.yaml"
    value = yaml.safe_load(recipe.read_text())
    value["training"] |= {"epochs": 10, "checkpoint_every": 3, "eval_every": 10}
    recipe.write_text(yaml.safe_dump(value))
    daemon = Daemon(ROOT / "workspace.yaml")
    runs_directory = profile.store / "runs" / "_runs"
    left: list[psutil.Process] = []
    try:
        command = [sys.executable, "-m", "training_assets", "train", "tiny", "--window", WINDOW]
        until(lambda: place.instance.get_daemon_heartbeats(), 60)
        person = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        until(lambda: list(runs_directory.glob("*/checkpoints/*/COMPLETE")), 120)
        daemon.kill()
        left = [process for process in psutil.process_iter() if launched(process, str(profile.store))]
        assert len(left) >= 3, "torchrun and two ranks train on"
        for process in left:
            process.kill()
        daemon = Daemon(ROOT / "workspace.yaml")
        said, _ = person.communicate(timeout=400)
    finally:
        daemon.close()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    assert person.returncode == 0, said
    assert re.search(r"the process of run \S+ was lost: run \S+ goes on in its place", said)
    staging, lost, again = runs(place)
    assert staging.dagster_run.job_name == "staging_job"
    assert (lost.dagster_run.status.value, again.dagster_run.status.value) == ("FAILURE", "SUCCESS")
    assert again.dagster_run.tags["dagster/priority"] == "30"
    result = place.record("tiny/checkpoint", Checkpoint, WINDOW).result
    assert result.resumed_from_step
    (directory,) = runs_directory.iterdir()
    assert json.loads((directory / "result.json").read_text())["run_id"] == directory.name[-8:]
    assert len(list(directory.glob("attempts/*.log"))) == 2
