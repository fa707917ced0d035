"""The gates: what passes, what fails, and what is left undecided, with the reason in the row."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.eval_report import Change, Comparison, EvalReport, SliceScore, SplitScore
from trainer.contract.results import Exports
from trainer.contract.slices import Slices, parse_slices
from trainer.contract.train_config import Automation, TrainConfig
from training_assets import gates
from training_assets.gates import GateResult, GateRow

AP, IOU, FDE = "detection/AP50", "segmentation/mIoU", "trajectory/FDE"
PRODUCTION = "d" * 64
Scores = dict[str, float | None]


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


def report(overall: Scores, night: Scores | None = None, samples: int = 20) -> EvalReport:
    parts = {} if night is None else {"night": SliceScore(samples=samples, metrics=night)}
    test = SplitScore(samples=50, metrics=overall, slices=parts)
    return EvalReport(
        run_id="r", recipe="tiny", checkpoint_sha256="c" * 64, data_digest="a" * 64, splits={"test": test}
    )


def change(value: float, reference: float, noise: float = 0.0) -> Change:
    difference = value - reference
    return Change(value=value, reference=reference, interval=(difference - noise, difference + noise))


def compared(
    overall: dict[str, Change], night: dict[str, Change] | None = None, samples: int = 20, **more: Any
) -> EvalReport:
    """A report with its comparison to production."""
    changes = {"all": overall, **({} if night is None else {"night": night})}
    against = Comparison(run_id="p", checkpoint_sha256=PRODUCTION, splits={"test": changes}, **more)
    own = [{name: one.value for name, one in (part or {}).items()} for part in (overall, night)]
    return report(own[0], own[1], samples).model_copy(update={"against": against})


def exports(
    p95: float = 5.0,
    error: float = 1e-6,
    formats: tuple[str, ...] = ("onnx", "torchscript"),
    quantization: dict[str, Any] | None = None,
) -> Exports:
    def measured(p95_ms: float) -> dict[str, Any]:
        figures = {"p50_ms": 1.0, "p95_ms": p95_ms, "p99_ms": p95_ms, "samples_per_second": 9.0, "repeats": 10}
        one = {"batch": 1, **figures, "peak_memory_bytes": None, "pinned": True}
        return {"latency": one, "throughput": {**one, "batch": 8, "p95_ms": 10_000.0}}

    def file(kind: str) -> dict[str, Any]:
        slow = p95 if kind == "onnx" else 10_000.0
        same = {"sha256": "0" * 64, "bytes": 1, "max_relative_error": error, **measured(slow)}
        return {"name": f"model.{kind}", "format": kind, **same}

    return Exports.model_validate(
        {
            "checkpoint_sha256": "c" * 64,
            "inputs": {"image": (1, 3, 64, 64)},
            "outputs": ("out",),
            "parameters": 1,
            "flops": 1.0,
            "eager": measured(1.0),
            "files": [file(kind) for kind in formats],
            "quantization": quantization,
            "tensorrt": {"command": "trtexec", "command_file": "command.txt", "plan": None, "note": ""},
        }
    )


def quantization(**losses: tuple[float | None, float | None, float | None]) -> dict[str, Any]:
    """Of ``model.int8``: task → eager's, its own and the lost part of one metric."""
    found = {
        f"{task}/mIoU": dict(zip(("eager", "quantized", "loss"), one, strict=True)) for task, one in losses.items()
    }
    return {"file": "model.int8", "calibration_samples": 9, "judged_samples": 7, "losses": found}


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


def test_a_slices_target_of_a_task_that_the_recipe_does_not_have_is_asked_of_others() -> None:
    asked = slices(targets={"weather/accuracy": 0.5, AP: 0.5})
    result = gates.targets_met(report({}, {AP: 0.6}), asked, config())
    other, own = result.rows
    assert (other.passed, other.verdict) == (None, "not asked: tiny has no task weather")
    assert (own.passed, result.passed) == (True, True)


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


def test_an_error_meets_its_target_from_below() -> None:
    asked = config(targets={FDE: 1.0})
    assert gates.targets_met(report({FDE: 0.9}), Slices(), asked).passed
    missed = gates.targets_met(report({FDE: 1.25}), Slices(), asked)
    assert (missed.passed, only(missed).margin) == (False, -0.25)


def test_without_a_production_model_there_is_no_regression() -> None:
    assert gates.no_regression(report({AP: 0.1}), slices(), config()).passed


def test_a_model_that_is_in_production_itself_is_not_compared() -> None:
    assert gates.no_regression(report({AP: 0.1}), slices(), config(), "c" * 64).rows == ()


@pytest.mark.parametrize("found", [report({AP: 0.9}), compared({AP: change(0.9, 0.1)})])
def test_a_report_that_was_not_compared_with_todays_production_does_not_pass(found: EvalReport) -> None:
    result = gates.no_regression(found, slices(), config(), "e" * 64)
    assert not result.passed
    assert "evaluate again" in only(result).verdict


@pytest.mark.parametrize(("value", "passed"), [(0.6, True), (0.7, True), (0.8, True), (0.599, False)])
def test_a_metric_may_fall_by_what_is_allowed_and_no_further(value: float, passed: bool) -> None:
    found = compared({AP: change(value, 0.7)})
    result = gates.no_regression(found, Slices(), config(allowed_regression=0.1), PRODUCTION)
    assert result.passed is passed
    assert only(result).limit == pytest.approx(0.6)


def test_an_error_may_rise_by_what_is_allowed_and_no_further() -> None:
    for value, passed in ((1.1, True), (0.2, True), (1.11, False)):
        found = compared({FDE: change(value, 1.0)})
        result = gates.no_regression(found, Slices(), config(allowed_regression=0.1), PRODUCTION)
        assert result.passed is passed
        assert only(result).limit == pytest.approx(1.1)


def test_a_fall_within_noise_does_not_fail_and_a_real_one_does() -> None:
    noise = gates.no_regression(compared({AP: change(0.5, 0.7, noise=0.3)}), Slices(), config(), PRODUCTION)
    real = gates.no_regression(compared({AP: change(0.5, 0.7, noise=0.1)}), Slices(), config(), PRODUCTION)
    assert (noise.passed, real.passed) == (True, False)
    assert only(noise).verdict == "passed, within noise (-0.2 to production, -0.5…+0.1)"
    assert only(real).verdict == "failed (-0.2 to production, -0.3…-0.1)"


def test_on_a_safety_critical_slice_noise_is_no_excuse() -> None:
    found = compared({}, {AP: change(0.5, 0.7, noise=0.3)})
    assert gates.no_regression(found, slices(), config(), PRODUCTION).passed
    assert not gates.no_regression(found, slices(safety_critical=True), config(), PRODUCTION).passed


def test_a_slice_may_fall_by_its_own_allowance_only() -> None:
    found = compared({AP: change(0.7, 0.7)}, {AP: change(0.48, 0.5)})
    result = gates.no_regression(found, slices(allowed_regression=0.01), config(allowed_regression=0.5), PRODUCTION)
    assert [(row.slice, row.passed) for row in result.rows] == [("all", True), ("night", False)]


def test_a_slice_that_is_too_small_is_not_compared() -> None:
    found = compared({}, {AP: change(0.1, 0.9)}, samples=3)
    result = gates.no_regression(found, slices(min_samples=10), config(), PRODUCTION)
    assert (only(result).passed, only(result).verdict) == (None, "too few samples (3 of 10)")


def test_a_metric_that_production_has_cannot_vanish() -> None:
    found = compared({AP: change(0.7, 0.7)}, lost={"test": (IOU, "detection/APs")})
    result = gates.no_regression(found, Slices(), config(), PRODUCTION)
    assert [(row.metric, row.passed) for row in result.rows] == [(IOU, False), (AP, True)]


def test_a_production_model_of_other_classes_decides_nothing_and_says_so() -> None:
    against = Comparison(run_id="p", checkpoint_sha256=PRODUCTION, misfit="does not know ['tram']")
    result = gates.no_regression(
        report({AP: 0.7}).model_copy(update={"against": against}), Slices(), config(), PRODUCTION
    )
    assert (result.passed, only(result).passed) == (True, None)
    assert "does not know ['tram']" in only(result).verdict


def test_scores_of_one_class_or_size_count_only_when_a_target_names_them() -> None:
    worse = compared({"detection/APs": change(0.1, 0.9), "detection/AP/car": change(0.1, 0.9)})
    assert gates.no_regression(worse, Slices(), config(), PRODUCTION).rows == ()
    named = gates.no_regression(worse, Slices(), config(targets={"detection/AP/car": 0.0}), PRODUCTION)
    assert (only(named).metric, named.passed) == ("detection/AP/car", False)


def test_bad_calibration_is_warned_of_and_does_not_block() -> None:
    result = gates.calibrated(report({"segmentation/ECE": 0.3, AP: 0.5}), config(max_calibration_error=0.2))
    assert (result.passed, result.blocks, only(result).metric) == (False, False, "segmentation/ECE")
    assert gates.calibrated(report({"segmentation/ECE": 0.1}), config(max_calibration_error=0.2)).passed


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


def test_an_int8_file_is_asked_for_its_loss_and_not_for_eagers_outputs() -> None:
    int8 = exports(error=0.5, formats=("int8",), quantization=quantization(segmentation=(0.8, 0.7, 0.1)))
    asked = gates.exports_match_eager(int8, config())
    assert only(asked).verdict == "failed: nothing was exported"  # no file is left that must match
    within = gates.quantization_loss_within_budget(int8, config(max_quantization_loss=0.1))
    beyond = gates.quantization_loss_within_budget(int8, config(max_quantization_loss=0.09))
    assert (within.passed, beyond.passed, beyond.blocks, beyond.severity) == (True, False, False, "warn")
    assert (only(beyond).slice, only(beyond).metric) == ("model.int8", "segmentation/mIoU")
    assert only(beyond).margin == pytest.approx(-0.01)


def test_a_loss_that_is_not_known_is_undecided_unless_only_the_int8_file_lacks_the_metric() -> None:
    found = quantization(lanes=(None, None, None), segmentation=(0.8, None, None))
    rows = gates.quantization_loss_within_budget(exports(quantization=found), config()).rows
    assert [row.passed for row in rows] == [None, False]
    assert "not defined on these 7 samples" in rows[0].verdict
    unjudged = gates.quantization_loss_within_budget(exports(quantization=quantization()), config())
    assert (unjudged.passed, only(unjudged).passed) == (True, None)
    assert gates.quantization_loss_within_budget(exports(), config()).rows == ()


def test_a_release_asks_every_gate() -> None:
    found = gates.all_gates(report({AP: 0.7}), exports(), Slices(), config(targets={AP: 0.3}))
    assert {gate.name: gate.passed for gate in found} == {
        "targets_met": True,
        "no_regression": True,
        "calibrated": True,
        "latency_within_budget": True,
        "exports_match_eager": True,
        "quantization_loss_within_budget": True,
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


@given(now=finite, before=finite, noise=st.floats(0, 10), allowed=st.floats(0, 1), strict=st.booleans())
def test_a_better_model_never_fails_and_strictness_never_passes_more(
    now: float, before: float, noise: float, allowed: float, strict: bool
) -> None:
    found = compared({}, {AP: change(now, before, noise)})
    asked = slices(allowed_regression=allowed, safety_critical=strict)
    passed = gates.no_regression(found, asked, config(), PRODUCTION).passed
    if now >= before:
        assert passed
    lenient = gates.no_regression(found, slices(allowed_regression=allowed), config(), PRODUCTION).passed
    assert lenient or not passed


def on_slice(value: float | None, interval: tuple[float, float] | None = None, limit: float = 0.5) -> GateRow:
    found = report({AP: value} if value is not None else {})
    intervals = {} if interval is None else {AP: interval}
    split = found.splits["test"].model_copy(update={"intervals": intervals})
    judged = found.model_copy(update={"splits": {"test": split}})
    (row,) = gates.slice_targets_met(judged, config(targets={AP: limit})).rows
    return row


def test_production_is_below_target_on_a_mined_slice_where_noise_does_not_explain_it() -> None:
    assert on_slice(0.6, (0.4, 0.8)).passed is True
    assert on_slice(0.4, (0.3, 0.45)).passed is False
    assert on_slice(0.4).passed is False, "without an interval the value decides"
    noisy = on_slice(0.4, (0.2, 0.6))
    assert (noisy.passed, noisy.verdict) == (None, "within noise (0.2…0.6)")
    unknown = on_slice(None)
    assert (unknown.passed, unknown.verdict) == (None, "the report does not have this metric")


def test_an_error_is_below_target_on_a_mined_slice_when_it_is_too_large() -> None:
    recipe = config(targets={FDE: 1.0})
    found = report({FDE: 1.4})
    assert not gates.slice_targets_met(found, recipe).passed
    assert gates.slice_targets_met(report({FDE: 0.9}), recipe).passed


def test_a_mined_slice_has_targets_of_its_own_where_the_recipe_says_so() -> None:
    own = config(targets={AP: 0.9}).model_copy(update={"automation": Automation(slice_targets={AP: 0.3})})
    assert gates.slice_targets_met(report({AP: 0.4}), own).passed
    assert gates.slice_targets_met(report({AP: 0.4}), config()).rows == ()


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("detection/AP50/pedestrian", "pedestrian AP50"),
        ("segmentation/mIoU", "segmentation mIoU"),
        ("latency_p95_ms", "latency p95 ms"),
        ("*", "every metric"),
    ],
)
def test_metrics_are_called_as_people_call_them(metric: str, words: str) -> None:
    assert gates.metric_in_words(metric) == words


def test_what_failed_is_said_in_words() -> None:
    person = f"{AP}/pedestrian"
    asked = slices(safety_critical=True, targets={person: 0.35}, min_samples=1)
    worse = compared({AP: change(0.5, 0.5)}, {AP: change(0.5, 0.5), person: change(0.31, 0.38, noise=0.2)})
    said = "night: pedestrian AP50 0.31, production 0.38: worse by 0.07 (allowed 0.02)"
    assert gates.no_regression(worse, asked, config(), PRODUCTION).failures == said
    assert gates.targets_met(worse, asked, config()).failures == (
        "night: pedestrian AP50 0.31, asked for at least 0.35: missed by 0.04"
    )
    slow = gates.latency_within_budget(exports(p95=7.0), config(latency_p95_ms=6.5))
    assert slow.failures == "model.onnx: latency p95 ms 7, asked for at most 6.5: missed by 0.5"


def test_a_protected_slice_has_what_was_found_on_it_and_nothing_of_others() -> None:
    asked = slices(min_samples=1)
    protecting = config(protected_slices=["night", "snow"])
    worse = compared({AP: change(0.1, 0.5)}, {AP: change(0.5, 0.5)})
    found = gates.no_regression(worse, asked, protecting, PRODUCTION)
    assert not found.passed
    night, snow = (gates.regressions_on(name, found) for name in ("night", "snow"))
    assert (night.passed, [row.slice for row in night.rows]) == (True, ["night"])
    assert (snow.passed, snow.failures) == (False, "snow: every metric: slices.yaml does not have this slice")
    never = gates.no_regression(report({AP: 0.5}), asked, protecting, PRODUCTION)
    assert not gates.regressions_on("night", never).passed, "not compared with production at all"
    assert gates.regressions_on("night", gates.no_regression(worse, asked, protecting, None)).passed
