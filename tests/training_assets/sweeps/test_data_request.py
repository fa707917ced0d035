"""When no trial reaches a slice's target, data is asked for: of which slice, how far off it is, how much may help."""

from pathlib import Path
from typing import Any

import pytest

from trainer.contract.charts import Charts, Sheet, Shown, SplitCharts
from trainer.contract.train_config import read_config
from training_assets.gates import GateResult, GateRow
from training_assets.sweeps.data_request import (
    DATA_REQUEST_FILE,
    DataRequest,
    data_request,
    events_of,
    frames_wanted,
    worst_first,
    write_data_request,
)

AP, ADE = "detection/AP50", "trajectory/ADE"
RECIPE = read_config(Path(__file__).parents[3] / "recipes" / "scenes_multitask.yaml", environment={})


def gate(value: float, passed: bool | None, name: str = "night", gate: str = "targets_met") -> GateResult:
    row = GateRow(metric=AP, slice=name, value=value, limit=0.5, passed=passed, verdict="", margin=value - 0.5)
    return GateResult(name=gate, passed=passed is not False, severity="block", rows=(row,))


def requested(*verdicts: Any, **more: Any) -> DataRequest | None:
    gates = {f"otter-cv{number}": [one] for number, one in enumerate(verdicts)}
    return data_request("otter", RECIPE, gates, more.get("frames", {}), more.get("examples", {}))


def test_a_slice_that_every_trial_fails_is_asked_for_by_the_nearest_of_them() -> None:
    found = requested(gate(0.2, False), gate(0.4, False), gate(0.3, False), frames={"night": 100})
    assert found is not None
    (wanted,) = found.slices
    assert (wanted.slice, wanted.metric, wanted.gate, wanted.trials) == ("night", AP, "targets_met", 3)
    assert (wanted.best, wanted.target, wanted.best_trial) == (0.4, 0.5, "otter-cv1")
    assert wanted.gap == pytest.approx(0.1)
    assert wanted.frames.present == 100


@pytest.mark.parametrize("last", [gate(0.6, True), gate(0.4, None), gate(0.4, False, "rain")])
def test_one_trial_that_passes_or_decides_nothing_is_enough_to_ask_for_none(last: GateResult) -> None:
    assert requested(gate(0.2, False), gate(0.4, False), last) is None


def test_the_whole_split_files_and_two_trials_ask_for_nothing() -> None:
    assert requested(*[gate(0.2, False, "all")] * 3) is None
    assert requested(*[gate(0.2, False, "model.onnx", "latency_within_budget")] * 3) is None
    assert requested(*[gate(0.2, False)] * 2) is None


def test_frames_are_guessed_by_powers_of_the_error() -> None:
    """From error 0.6 to 0.5 by a square root: 100 · (1.2² - 1) = 44; by a fourth root: 100 · (1.2⁴ - 1) = 107."""
    assert (frames_wanted(AP, 0.4, 0.5, 100).low, frames_wanted(AP, 0.4, 0.5, 100).high) == (44, 107)
    halved = frames_wanted(ADE, 2.0, 1.0, 50)
    assert (halved.low, halved.high) == (150, 750)
    assert "b = 1/2" in halved.formula


@pytest.mark.parametrize(
    ("value", "target", "present", "said"),
    [
        (None, 0.5, 10, "no trial has a value"),
        (0.4, 0.5, 0, "no frames of this slice"),
        (0.4, 0.5, None, "no frames of this slice"),
        (0.4, 1.0, 10, "leaves no error"),
    ],
)
def test_where_nothing_can_be_guessed_it_is_said(value: Any, target: float, present: Any, said: str) -> None:
    found = frames_wanted(AP, value, target, present)
    assert (found.low, found.high) == (None, None)
    assert said in found.note


def test_a_hopeless_number_of_frames_says_so() -> None:
    assert "hardly do" in frames_wanted(AP, 0.1, 0.99, 10).note


def test_examples_are_the_samples_that_the_model_did_worst_on_and_then_others_of_the_slice() -> None:
    worst = tuple(Shown(sample_id=one, value=0.1) for one in ("c", "x", "a"))
    sheet = Sheet(task="detection", metric=AP, file="sheet.jpg", best=(), worst=worst)
    charts = Charts(checkpoint_sha256="c" * 64, splits={"test": SplitCharts(drawings=(), sheets=(sheet,))})
    assert worst_first(charts, {"night": ["a", "b", "c"], "rain": []}) == {"night": ("c", "a", "b"), "rain": ()}


def test_the_request_is_written_and_told_once_for_each_slice(tmp_path: Path) -> None:
    rows = [gate(0.2, False), gate(0.3, False, "rain")]
    gates = {f"otter-cv{number}": rows for number in range(3)}
    found = data_request("otter", RECIPE, gates, {}, {"night": [str(number) for number in range(20)]})
    assert found is not None
    assert DataRequest.model_validate_json(write_data_request(found, tmp_path).read_bytes()) == found
    assert (tmp_path / DATA_REQUEST_FILE).is_file()
    assert [len(one.examples) for one in found.slices] == [8, 0]
    events = events_of(found)
    assert [(one.type, one.slice, one.cause, one.recipe) for one in events] == [
        ("data.requested", "night", "sweep", RECIPE.name),
        ("data.requested", "rain", "sweep", RECIPE.name),
    ]
    assert events[0].rows[0].verdict == "failed by all 3 trials of sweep otter"
    assert [one.id for one in events_of(found)] == [one.id for one in events], "told again it is the same event"
    assert len({one.id for one in events}) == 2
