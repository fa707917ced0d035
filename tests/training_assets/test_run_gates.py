"""The gates inside a run as Dagster shows them: checks of the checkpoint, and a step that is not tried again."""

import json
from pathlib import Path
from typing import Any

import cv2
import dagster as dg
import pytest
import yaml

from trainer.contract.exit_codes import GATE_FAILED
from trainer.contract.files import sha256_of
from trainer.contract.history import read_history
from trainer.contract.results import Failure, TrainResult, Verdict
from training_assets.check_names import CHECKS
from training_assets.launchers import LocalLauncher, Status
from training_assets.records import Checkpoint
from training_assets.run_gates import RUN_GATES

WINDOWS = ("2026-01-05", "2026-01-12")
CHECKPOINT = dg.AssetKey(["tiny", "checkpoint"])
SPIKE = Verdict(gate="loss_spikes", passed=False, severity="warn", message="1 loss spike", figures={"spikes": 1.0})
DRIFTED = Verdict(gate="drift", passed=False, severity="abort", message="brightness 2.1", figures={"brightness": 2.1})


def prepared(graph: Any) -> Any:
    assert graph.run("dataset_version", "eval_shards").success
    assert graph.run("staged_shards", windows=WINDOWS).success
    assert graph.run("tiny/training_set", window=WINDOWS[1]).success
    return graph


def logged_checks(graph: Any) -> dict[str, dg.AssetCheckEvaluation]:
    """The evaluations of the checkpoint's checks in Dagster's event log."""
    records = graph.instance.get_event_records(dg.EventRecordsFilter(dg.DagsterEventType.ASSET_CHECK_EVALUATION))
    events = [record.event_log_entry.dagster_event.event_specific_data for record in records]
    return {event.check_name: event for event in events if event.asset_key == CHECKPOINT}


@pytest.mark.slow
def test_each_verdict_is_a_check_of_its_severity_with_its_figures(graph: Any, trainer: Any) -> None:
    pretend = trainer.train

    def train(spec: Any) -> None:
        pretend(spec)
        path = spec.run_dir / "result.json"
        result = TrainResult.model_validate_json(path.read_bytes())
        path.write_text(result.model_copy(update={"gates": (SPIKE,)}).model_dump_json())

    trainer.train = train
    prepared(graph)
    assert graph.run("tiny/checkpoint", window=WINDOWS[1]).success
    checks = logged_checks(graph)
    assert set(checks) == {CHECKS[name] for name in RUN_GATES}
    spike = checks["no_loss_spikes"]
    assert (spike.passed, spike.severity, spike.description) == (False, dg.AssetCheckSeverity.WARN, "1 loss spike")
    assert spike.metadata["spikes"].value == 1.0
    assert checks["data_looks_like_the_reference"].passed
    assert "switched off in the recipe (guards.drift.enabled)" in (
        checks["data_looks_like_the_reference"].description or ""
    )


@pytest.mark.slow
def test_a_gate_that_ends_a_run_is_a_failed_check_and_a_failed_step_that_is_not_retried(
    graph: Any, trainer: Any, failure: Any
) -> None:
    word = Failure(kind="gate", message="drift: brightness 2.1", rank=0, verdict=DRIFTED)
    trainer.train = lambda spec: (spec.attempt_dir / "failure.json").write_text(word.model_dump_json())
    prepared(graph)
    poll = trainer.poll
    trainer.poll = lambda handle: (
        Status("failed", GATE_FAILED, "train, rank 0: drift: brightness 2.1", "gate")
        if handle.spec.what == "train"
        else poll(handle)
    )
    result = graph.run("tiny/checkpoint", window=WINDOWS[1])
    assert not result.success
    assert len(trainer.commands("train")) == 1
    assert "drift: brightness 2.1" in failure(result)
    checks = logged_checks(graph)
    assert set(checks) == {"data_looks_like_the_reference"}
    drift = checks["data_looks_like_the_reference"]
    assert (drift.passed, drift.severity, drift.partition) == (False, dg.AssetCheckSeverity.ERROR, WINDOWS[1])
    assert drift.metadata["brightness"].value == 2.1
    (event,) = (json.loads(line) for line in (graph.profile.store / "events.jsonl").read_text().splitlines())
    assert (event["type"], event["gate"], event["severity"]) == ("gate.failed", "drift", "block")
    assert event["checkpoint_sha256"] is None
    assert "brightness 2.1" in event["message"]


@pytest.mark.slow
def test_the_median_rule_gets_the_history_of_the_recipes_other_windows(graph: Any, trainer: Any, profile: Any) -> None:
    path = profile.recipes / "tiny.yaml"
    recipe = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**recipe, "guards": {"early_stopping": {"median_rule": True}}}))
    other = type(graph)(profile, graph.instance, launcher=trainer)
    prepared(other)
    assert other.run("tiny/checkpoint", window=WINDOWS[1]).success
    first = other.record("tiny/checkpoint", Checkpoint, WINDOWS[1])
    assert other.run("tiny/checkpoint", window=WINDOWS[1]).success
    histories = [read_history(spec.run_dir / "history.json") for spec in trainer.commands("train")]
    assert histories[0] == ()
    assert [run.run_id for run in histories[1]] == [first.run_id]
    assert histories[1][0].values("segmentation/mIoU") == {1: 0.7}


def darken(delivery: Path, first_day: str) -> None:
    """Halve the brightness of the train images from ``first_day`` on."""
    manifest = delivery / "golden_train.manifest"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        if row["captured_at"] >= first_day:
            path = delivery / row["source-ref"]
            cv2.imwrite(str(path), cv2.imread(str(path)) // 4)
            row["sha256"] = sha256_of(path)
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
def test_a_window_of_darkened_images_ends_its_real_training_at_the_drift_gate(
    graph: Any, profile: Any, failure: Any
) -> None:
    darken(graph.delivery, WINDOWS[1])
    graph.edit("golden_train.manifest", str)
    path = profile.recipes / "tiny.yaml"
    recipe = yaml.safe_load(path.read_text())
    asked = {"window": {"count": 1, "min_samples": 4}, "guards": {"drift": {"every": 1, "abort": 0.8}}}
    path.write_text(yaml.safe_dump({**recipe, **asked}))
    real = type(graph)(profile, graph.instance, launcher=LocalLauncher())
    assert real.run("dataset_version", "eval_shards", "reference_profile").success
    assert {"report/val", "drift/val", "features"} <= set(real.metadata("reference_profile"))
    assert real.run("staged_shards", windows=WINDOWS).success
    assert real.run("tiny/training_set", window=WINDOWS[1]).success
    result = real.run("tiny/checkpoint", window=WINDOWS[1])
    assert not result.success
    assert len([event for event in result.all_events if event.is_step_start]) == 1
    assert "guards.drift.abort (0.8)" in failure(result)
    drift = logged_checks(real)["data_looks_like_the_reference"]
    assert (drift.passed, drift.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "brightness" in (drift.description or "")
    assert drift.metadata["brightness"].value > 0.8
