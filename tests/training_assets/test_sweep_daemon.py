"""A sweep with Dagster's real daemon: no trial is lost, none runs twice, whatever is killed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from tests.training_assets.daemons import Daemon, prepare_home, pretending_workspace, until
from training_assets.control import LAUNCH_TAG
from training_assets.recipes import recipe_named
from training_assets.records import TrialRun
from training_assets.starting_sweeps import AskedSweep, start
from training_assets.sweeps.journal import read_trials
from training_assets.sweeps.place import SweepPlace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE, TRIALS = 240.0, 4
SWEEP = {
    "recipe": "tiny",
    "objective": "segmentation/mIoU",
    "strategy": "random",
    "epochs": 2,
    "budget": {"max_trials": TRIALS, "parallelism": 1},
    "top_k": 1,
    "parameters": {"optim.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1}},
}


@pytest.fixture
def place(graph_without_dvc: Any, profile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Dagster home whose recipe has a training set, and nothing else."""
    prepare_home(tmp_path / "home", max_concurrent_runs=2)
    environment = {"DAGSTER_HOME": tmp_path / "home", "PRETENDING": tmp_path, "TRAINING_ASSETS_SENSOR_SECONDS": 1}
    environment |= {f"TRAINING_ASSETS_{name.upper()}": getattr(profile, name) for name in ("store", "inbox", "recipes")}
    for name, setting in environment.items():
        monkeypatch.setenv(name, str(setting))
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        resources = graph_without_dvc.defs.resources
        place = type(graph_without_dvc)(profile, instance, launcher=resources["launcher"], dvc=resources["dvc"])
        assert place.run("dataset_version", "eval_shards").success
        assert place.run("staged_shards", windows=("2026-01-05", "2026-01-12")).success
        assert place.run("tiny/training_set", window="2026-01-12").success
        yield place


def test_a_sweep_goes_on_to_its_report_whatever_is_killed(place: Any, tmp_path: Path) -> None:
    sweep = begun(place, tmp_path)
    workspace = pretending_workspace(tmp_path / "workspace.yaml")
    daemon = Daemon(workspace, sensor_seconds=1)
    try:
        (tmp_path / "hold-train").touch()
        until(lambda: (tmp_path / "held-train").exists(), PATIENCE)
        daemon.kill()  # in the middle of the first trial, and its worker with it
        release(tmp_path)
        daemon = Daemon(workspace, sensor_seconds=1)
        until(lambda: completed(sweep) >= 2, PATIENCE)
        daemon.kill()  # wherever it is now
        daemon = Daemon(workspace, sensor_seconds=1)
        until(lambda: sweep.ended is not None and at_rest(place.instance), PATIENCE)
    finally:
        daemon.close()
    trials = list(read_trials(sweep.root))
    assert [trial.state for trial in trials] == ["completed"] * TRIALS
    launches = [
        run.tags[LAUNCH_TAG] for run in place.instance.get_runs() if not run.parent_run_id and LAUNCH_TAG in run.tags
    ]
    assert len(launches) == len(set(launches)) == TRIALS + 1, "each trial and the report were started once"
    records = place.records
    for trial in trials:
        record = records.read(dg.AssetKey(["tiny", "trial"]), f"night-owl-1-cv{trial.id}", TrialRun)
        assert record.params == dict(trial.params)
    assert (sweep.report / "sweep_summary.json").is_file()


def begun(place: Any, tmp_path: Path) -> SweepPlace:
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(SWEEP))
    recipe = recipe_named(place.profile, "tiny")
    asked = AskedSweep(file, recipe, place.profile.recipes / "tiny.yaml", "night-owl-1", "manual", "a test")
    return start(asked, place.places, place.trainer)


def completed(sweep: SweepPlace) -> int:
    return sum(trial.state == "completed" for trial in read_trials(sweep.root))


def at_rest(instance: dg.DagsterInstance) -> bool:
    return all(run.is_finished and not run.is_complete_and_waiting_to_retry for run in instance.get_runs())


def release(tmp_path: Path) -> None:
    for state in ("hold", "held"):
        (tmp_path / f"{state}-train").unlink(missing_ok=True)
