"""The fleet: what runs where, read from the run directories alone."""

import json
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from tests.training_assets.launchers.test_session import REPOSITORY, STEP, Priced, outcome, run, spec_of, until
from trainer.contract.attempts import ATTEMPT_VARIABLE, Heartbeat
from training_assets.commands import runs as command
from training_assets.commands.runs import RunRow, described, rows_of
from training_assets.launchers import Handle
from training_assets.launchers.base import Estimate
from training_assets.launchers.processes import marked, stop_tree
from training_assets.launchers.session import HANDLE_FILE
from training_assets.places import Places


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PACE_SECONDS", 0.3)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "store")


def run_dir(places: Places, name: str = "tiny-2026-01-05") -> Path:
    directory = places.run(name, "abcd1234")
    directory.mkdir(parents=True)
    return directory


def only(places: Places, everything: bool = False) -> RunRow:
    (row,) = rows_of(places, everything)
    return row


@pytest.mark.slow
def test_a_run_under_way_shows_its_step_and_since_when(places: Places) -> None:
    spec = spec_of("patient", run_dir(places))
    arguments = ["patient", str(spec.run_dir), spec.attempt, spec.environment["PYTHONPATH"]]
    step = subprocess.Popen([sys.executable, "-c", STEP, *arguments], cwd=REPOSITORY)
    try:
        until((spec.run_dir / "rank-0").exists)
        Heartbeat(spec.attempt_dir, 0).beat(8, 7)
        row = only(places)
        assert (row.run, row.backend, row.state, row.attempt, row.step) == (
            "tiny-2026-01-05-abcd1234", "local", "running", 1, 7,
        )  # fmt: skip
        assert 0 < row.seconds < 60
        assert row.usd is None, "this machine has no price"
    finally:
        step.kill()
        step.wait()
        stop_tree([], (ATTEMPT_VARIABLE, spec.attempt), grace=0.1)
    assert not marked((ATTEMPT_VARIABLE, spec.attempt))


def test_what_a_run_waits_for_and_costs_is_told(places: Places) -> None:
    directory = run_dir(places)
    kept = {"id": "1", "nodes": [], "started_at": time.time() - 1800, "arguments": [], "launcher": "eks",
            "waits_for": "1 of 2 nodes wait: Insufficient nvidia.com/gpu",
            "estimate": {"instance_type": "p4d.24xlarge", "nodes": 2, "gpus": 16, "usd_per_hour": 44.0}}  # fmt: skip
    path = directory / "attempts" / "a1" / HANDLE_FILE
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(kept))
    row = only(places)
    assert (row.state, row.backend, row.nodes, row.instance_type) == ("waits", "eks", 2, "p4d.24xlarge")
    assert row.usd == pytest.approx(22.0, abs=0.1)
    assert row.gpu_hours == pytest.approx(8.0, abs=0.1)
    text = "\n".join(described([row]))
    assert "Insufficient nvidia.com/gpu" in text
    assert "22.0" in text


@pytest.mark.slow
def test_all_attempts_of_an_ended_run_are_paid_for_and_its_end_is_named(places: Places) -> None:
    directory = run_dir(places)
    with pytest.raises(dg.RetryRequested):
        run(spec_of("fine", directory, module="no_such_module"))
    assert rows_of(places) == [], "nothing is under way"
    first = only(places, everything=True)
    assert (first.state, first.attempt) == ("crash", 1)
    assert "exited with code 1" in first.why
    last = spec_of("fine", directory)
    run(last)
    row = only(places, everything=True)
    assert (row.state, row.attempt, row.instance_type) == ("succeeded", 2, "p9.large")
    assert first.usd is not None
    assert row.usd == pytest.approx(first.usd + outcome(last)["spent"]["usd"])


def test_a_store_without_runs_is_no_error(places: Places) -> None:
    assert rows_of(places, everything=True) == []


def test_an_estimate_is_of_all_nodes_together() -> None:
    estimate = Estimate("p9.large", 2, 16, 10.0)
    assert (estimate.gpu_hours(1800), estimate.cost(1800)) == (8.0, 5.0)
    assert Priced().attach(Handle("", spec_of("fine", Path("/nowhere")), 0.0)) is None
