"""The gates: what passes, what fails, and what is left undecided, with the reason in the row."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.eval_report import EvalReport, SliceScore, SplitScore
from trainer.contract.results import Exports
from trainer.contract.slices import Slices, parse_slices
from trainer.contract.train_config import TrainConfig
from training_assets import gates
from training_assets.gates import GateResult, GateRow

AP, IOU = "detection/AP50", "segmentation/mIoU"


def config(**release: Any) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "name": "tiny",
            "project": "tests",
            "data": {"image_size": [64, 64]},
            "tasks": {"detection": {}, "segmentation": {}},
            "training": {"monitor": IOU},
            "release": release,
        }
    )


def slices(**night: Any) -> Slices:
    return parse_slices({"slices": [{"name": "night", "where": {"attributes.time_of_day": "night"}, **night}]})


def report(
    overall: dict[str, float | None], night: dict[str, float | None] | None = None, samples: int = 20, data: str = "a"
) -> EvalReport:
    parts = {} if night is None else {"night": SliceScore(samples=samples, metrics=night)}
    test = SplitScore(samples=50, metrics=overall, slices=parts)
    digest = data * 64
    return EvalReport(run_id="r", recipe="tiny", checkpoint_sha256="c" * 64, data_digest=digest, splits={"test": test})


def exports(p95: float = 5.0, error: float = 1e-6, formats: tuple[str, ...] = ("onnx", "torchscript")) -> Exports:
    def latency(p95_ms: float) -> dict[str, Any]:
        return {"p50_ms": 1.0, "p95_ms": p95_ms, "threads": 1, "repeats": 10}

    def file(kind: str) -> dict[str, Any]:
        slow = p95 if kind == "onnx" else 10_000.0
        same = {"sha256": "0" * 64, "bytes": 1, "max_relative_error": error, "latency": latency(slow)}
        return {"name": f"model.{kind}", "format": kind, **same}

    return Exports.model_validate(
        {
            "checkpoint_sha256": "c" * 64,
            "inputs": (1, 3, 64, 64),
            "outputs": ("out",),
            "eager_latency": latency(1.0),
            "files": [file(kind) for kind in formats],
        }
    )


def only(result: GateResult) -> GateRow:
    assert len(result.rows) == 1, result.rows
    return result.rows[0]


def test_a_target_that_is_just_met_passes_and_one_just_missed_fails() -> None:
    good = gates.targets_met(report({AP: 0.3}), Slices(), config(targets={AP: 0.3}))
    bad = gates.targets_met(report({AP: 0.299}), Slices(), config(targets={AP: 0.3}))
    assert (good.passed, only(good).verdict) == (True, "passed")
    assert (bad.passed, bad.blocks, only(bad).passed) == (False, True, False)
    assert only(bad).margin == pytest.approx(-0.001)


@pytest.mark.parametrize(
    ("metrics", "reason"), [({AP: None}, "not defined on these 50 samples"), ({}, "does not have this metric")]
)
def test_a_target_without_a_value_fails_and_says_why(metrics: dict[str, float | None], reason: str) -> None:
    result = gates.targets_met(report(metrics), Slices(), config(targets={AP: 0.3}))
    assert not result.passed
    assert reason in only(result).verdict


def test_a_slice_has_targets_of_its_own() -> None:
    asked = slices(targets={AP: 0.5})
    result = gates.targets_met(report({AP: 0.9}, {AP: 0.4}), asked, config(targets={AP: 0.3}))
    assert [(row.slice, row.passed) for row in result.rows] == [("all", True), ("night", False)]
    assert not result.passed


def test_a_slice_with_too_few_samples_neither_passes_nor_fails() -> None:
    asked = slices(targets={AP: 0.5}, min_samples=10)
    result = gates.targets_met(report({}, {AP: 0.0}, samples=9), asked, config())
    assert (only(result).passed, only(result).verdict) == (None, "too few samples (9 of 10)")
    assert result.passed
    judged = gates.targets_met(report({}, {AP: 0.0}, samples=10), asked, config())
    assert not judged.passed


def test_an_undefined_metric_of_a_slice_without_samples_is_undecided_not_failed() -> None:
    result = gates.targets_met(report({}, {AP: None}, samples=0), slices(targets={AP: 0.5}), config())
    assert only(result).verdict == "too few samples (0 of 10)"


def test_a_slice_with_targets_that_the_report_does_not_have_fails() -> None:
    result = gates.targets_met(report({AP: 0.9}), slices(targets={AP: 0.5}), config())
    assert only(result).verdict == "failed: the report does not have this slice"


def test_a_report_without_a_test_split_meets_no_target() -> None:
    empty = report({}).model_copy(update={"splits": {}})
    result = gates.targets_met(empty, slices(targets={AP: 0.5}), config(targets={AP: 0.3}))
    assert [row.passed for row in result.rows] == [False, False]


def test_without_a_production_model_there_is_no_regression() -> None:
    assert gates.no_regression(report({AP: 0.1}), slices(), config()).passed


@pytest.mark.parametrize(("value", "passed"), [(0.6, True), (0.7, True), (0.8, True), (0.599, False)])
def test_a_metric_may_fall_by_what_is_allowed_and_no_further(value: float, passed: bool) -> None:
    result = gates.no_regression(report({AP: value}), Slices(), config(allowed_regression=0.1), report({AP: 0.7}))
    assert result.passed is passed
    assert only(result).limit == pytest.approx(0.6)


def test_a_slice_may_fall_by_its_own_allowance_only() -> None:
    asked, before = slices(allowed_regression=0.01), report({AP: 0.7}, {AP: 0.5})
    result = gates.no_regression(report({AP: 0.7}, {AP: 0.48}), asked, config(allowed_regression=0.5), before)
    assert [(row.slice, row.passed) for row in result.rows] == [("all", True), ("night", False)]


def test_a_slice_that_was_or_is_too_small_is_not_compared() -> None:
    small, large = report({}, {AP: 0.9}, samples=3), report({}, {AP: 0.1}, samples=30)
    for now, before in ((small, large), (large, small)):
        result = gates.no_regression(now, slices(min_samples=10), config(), before)
        assert (only(result).passed, only(result).verdict) == (None, "too few samples (3 of 10)")


def test_a_slice_that_only_one_report_has_is_not_compared() -> None:
    result = gates.no_regression(report({}, {AP: 0.1}), slices(), config(), report({}))
    assert (only(result).passed, only(result).verdict) == (None, "not in both reports")


def test_a_task_that_production_has_cannot_vanish() -> None:
    result = gates.no_regression(report({AP: 0.7}), Slices(), config(), report({AP: 0.7, IOU: 0.5}))
    assert [(row.metric, row.passed) for row in result.rows] == [(AP, True), (IOU, False)]


def test_scores_of_one_class_or_size_count_only_when_a_target_names_them() -> None:
    fine: dict[str, float | None] = {"detection/APs": 0.9, "detection/AP/car": 0.9, AP: None}
    worse: dict[str, float | None] = {"detection/APs": 0.1, "detection/AP/car": 0.1, AP: None}
    assert gates.no_regression(report(worse), Slices(), config(), report(fine)).rows == ()
    named = gates.no_regression(report(worse), Slices(), config(targets={"detection/AP/car": 0.0}), report(fine))
    assert (only(named).metric, named.passed) == ("detection/AP/car", False)


def test_other_data_is_said_in_each_row() -> None:
    other = gates.no_regression(report({AP: 0.7}, data="a"), Slices(), config(), report({AP: 0.7}, data="b"))
    same = gates.no_regression(report({AP: 0.7}), Slices(), config(), report({AP: 0.7}))
    assert "judged on other data" in only(other).verdict
    assert only(same).verdict == "passed"


def test_latency_asks_the_onnx_file_only() -> None:
    assert gates.latency_within_budget(exports(p95=5.0), config(latency_p95_ms=5.0)).passed
    slow = gates.latency_within_budget(exports(p95=5.1), config(latency_p95_ms=5.0))
    assert (only(slow).passed, only(slow).slice) == (False, "model.onnx")
    assert only(slow).margin == pytest.approx(-0.1)
    absent = gates.latency_within_budget(exports(formats=("torchscript",)), config())
    assert (absent.passed, only(absent).verdict) == (False, "failed: no export of format onnx was timed")


def test_every_exported_file_must_match_eager() -> None:
    assert gates.exports_match_eager(exports(error=1e-3), config(parity_tolerance=1e-3)).passed
    wrong = gates.exports_match_eager(exports(error=2e-3), config(parity_tolerance=1e-3))
    assert [row.passed for row in wrong.rows] == [False, False]
    assert not gates.exports_match_eager(exports(formats=()), config()).passed


def test_a_release_asks_all_four_gates() -> None:
    found = gates.all_gates(report({AP: 0.7}), exports(), Slices(), config(targets={AP: 0.3}), report({AP: 0.7}))
    assert {gate.name: gate.passed for gate in found} == {
        "targets_met": True,
        "no_regression": True,
        "latency_within_budget": True,
        "exports_match_eager": True,
    }


def test_the_table_shows_what_failed_first() -> None:
    asked = slices(targets={AP: 0.5}, min_samples=5)
    result = gates.targets_met(report({AP: 0.9, IOU: None}, {AP: 0.4}), asked, config(targets={AP: 0.3, IOU: 0.2}))
    lines = gates.markdown([result]).splitlines()
    assert lines[0] == "**targets_met**: FAILED"
    assert lines[-1] == "| detection/AP50 | all | 0.9 | 0.3 | 0.6 | passed |"
    assert {line.count("|") for line in lines[2:]} == {7}


finite = st.floats(-1e3, 1e3)


@given(value=finite, limit=finite)
def test_a_target_passes_exactly_when_the_value_is_not_below_it(value: float, limit: float) -> None:
    result = gates.targets_met(report({AP: value}), Slices(), config(targets={AP: limit}))
    assert result.passed is (value >= limit or limit - value <= 1e-9)


@given(now=finite, before=finite, allowed=st.floats(0, 1))
def test_a_model_never_regresses_against_itself_and_a_better_one_never_fails(
    now: float, before: float, allowed: float
) -> None:
    better = report({AP: max(now, before)})
    assert gates.no_regression(better, Slices(), config(allowed_regression=allowed), report({AP: before})).passed
