"""Who goes first, what is tried again and what is not: with a real daemon, code server and run workers."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
import yaml

from training_assets.control import Plan, delivery_config, training_request
from training_assets.queue import submit
from training_assets.records import Checkpoint

ROOT = Path(__file__).parents[2]
WINDOW = "2026-01-12"
PRETENDING = {
    "load_from": [
        {
            "python_module": {
                "module_name": "tests.training_assets.pretending",
                "location_name": "training_assets",
                "working_directory": str(ROOT),
            }
        }
    ]
}


class Daemon:
    """``dagster-daemon run`` with its code server and run workers; what a training launched is not among them."""

    def __init__(self, workspace: Path) -> None:
        dagster = str(Path(sys.executable).with_name("dagster-daemon"))
        command = [dagster, "run", "-w", str(workspace)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = psutil.Popen(command, cwd=ROOT, start_new_session=True, **quiet)

    def kill(self) -> None:
        """As a power cut does, all at once."""
        everything = [self.process, *self.process.children(recursive=True)]
        for process in [one for one in everything if not launched(one)]:
            process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.is_running():
            everything = [self.process, *self.process.children(recursive=True)]
            self.process.send_signal(signal.SIGTERM)
            _, left = psutil.wait_procs(everything, timeout=15)
            for process in left:
                process.kill()


def launched(process: psutil.Process, below: str = "") -> bool:
    """Whether it belongs to a training, in a directory ``below`` this one."""
    try:
        return "TRAINING_ASSETS_ATTEMPT" in process.environ() and process.cwd().startswith(below)
    except (psutil.Error, OSError):
        return False


def until(condition: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)
    return found


@pytest.fixture
def place(graph: Any, profile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A place with a checked delivery, and a home with the shipped settings that looks for lost runs more often."""
    settings = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())
    settings["run_monitoring"] |= {"poll_interval_seconds": 2, "free_slots_after_run_end_seconds": 1}
    settings["concurrency"]["runs"]["max_concurrent_runs"] = 1
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("TRAINING_ASSETS_SENSOR_SECONDS", "3")
    for name in ("store", "inbox", "recipes"):
        monkeypatch.setenv(f"TRAINING_ASSETS_{name.upper()}", str(getattr(profile, name)))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        place = type(graph)(profile, instance, launcher=graph.defs.resources["launcher"])
        assert place.run("dataset_version", "eval_shards").success
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
    workspace = tmp_path / "workspace.yaml"
    workspace.write_text(yaml.safe_dump(PRETENDING))
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
    place: Any, profile: Any
) -> None:
    recipe = profile.recipes / "tiny.yaml"
    value = yaml.safe_load(recipe.read_text())
    value["training"] |= {"epochs": 40, "checkpoint_every": 6, "eval_every": 20}
    recipe.write_text(yaml.safe_dump(value))
    daemon = Daemon(ROOT / "workspace.yaml")
    runs_directory = profile.store / "runs" / "_runs"
    left: list[psutil.Process] = []
    try:
        command = [sys.executable, "-m", "training_assets", "train", "tiny", "--window", WINDOW]
        until(lambda: place.instance.get_daemon_heartbeats(), 60)
        person = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        until(lambda: list(runs_directory.glob("*/checkpoints/*/*")), 120)
        daemon.kill()
        left = [process for process in psutil.process_iter() if launched(process, str(profile.store))]
        assert len(left) >= 3, "torchrun and two ranks train on"
        for process in left:
            process.suspend()  # they would be done before anybody misses their run
        daemon = Daemon(ROOT / "workspace.yaml")
        said, _ = person.communicate(timeout=400)
        survivors = [process for process in left if process.is_running()]
    finally:
        daemon.close()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    assert person.returncode == 0, said
    assert re.search(r"the process of run \S+ was lost: run \S+ goes on in its place", said)
    assert not survivors, "what nobody watched any more was ended"
    staging, lost, again = runs(place)
    assert staging.dagster_run.job_name == "staging_job"
    assert (lost.dagster_run.status.value, again.dagster_run.status.value) == ("FAILURE", "SUCCESS")
    assert again.dagster_run.tags["dagster/priority"] == "30"
    result = place.record("tiny/checkpoint", Checkpoint, WINDOW).result
    assert result.resumed_from_step
    (directory,) = runs_directory.iterdir()
    assert json.loads((directory / "result.json").read_text())["run_id"] == directory.name[-8:]
    assert len(list(directory.glob("attempts/*.log"))) == 2
