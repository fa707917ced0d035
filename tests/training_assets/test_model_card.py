"""The model card: its figures are those of its inputs, and its caveats follow from them."""

from dataclasses import replace
from typing import Any

import pytest

from trainer.contract.eval_report import Change, Comparison, EvalReport, SliceScore, SplitScore
from trainer.contract.results import Verdict
from trainer.contract.slices import parse_slices
from training_assets.gates import GateResult, GateRow
from training_assets.model_card import caveats, model_card
from training_assets.stores.source import CodeVersion

IOU = "segmentation/mIoU"


def report(metrics: dict[str, float | None], slices: dict[str, SliceScore]) -> EvalReport:
    test = SplitScore(samples=30, metrics=metrics, slices=slices)
    return EvalReport(
        run_id="ab12cd34", recipe="tiny", checkpoint_sha256="c" * 64, data_digest="a" * 64, splits={"test": test}
    )


def test_the_card_holds_the_figures_of_its_inputs(facts: Any) -> None:
    text = model_card(facts())
    for expected in (
        "# tiny, run ab12cd34",
        "Finds the road.",
        "segmentation of road, car",
        "RGB images of 96×64",
        "| whole test split | 30 | 0.6 |",
        "| night (safety-critical) | 12 | 0.6 |",
        "| segmentation/IoU/car | 0.4 |",
        "| file | p50 ms | p95 ms | p99 ms | batch 8: p50 ms | batch 8: samples/s | batch 8: peak MB |",
        "| eager | 1.25 | 2.5 | 3 | 8 | 1000 | 64 | – | – |",
        "| model.onnx | 1.25 | 2.5 | 3 | 8 | 1000 | 64 | 1e-06 | 9 |",
        f"| {IOU} | 0.61 | 0.585 | 0.025 |",
        "77.dir",
        "Frames: train 40, val 8, test 30; captured 2026-01-05 to 2026-01-18 (recorded 78)",
        "Licences: CC0-1.0 78",
        "| 2026-01-12 | 25 |",
        "12,345 parameters",
        "1 epochs, 100 steps, batch 16 over 2 ranks",
        "**targets_met**: passed",
        "d" * 40,
    ):
        assert expected in text
    assert "2026-01-19" not in text, "a window that was not trained on"


def test_the_same_inputs_make_the_same_card(facts: Any) -> None:
    assert model_card(facts()) == model_card(facts())


def test_a_model_without_blemish_has_no_caveats(facts: Any) -> None:
    assert caveats(facts()) == []
    assert "no reason for one" in model_card(facts())


def test_a_slice_that_is_too_small_or_empty_is_called_out_and_never_the_weakest(facts: Any) -> None:
    few = report({IOU: 0.6}, {"night": SliceScore(samples=9, metrics={IOU: 0.0})})
    none = report({IOU: 0.6}, {"night": SliceScore(samples=0, metrics={IOU: None})})
    assert caveats(facts(report=few)) == ["Safety-critical slice night was not judged: 9 samples, 10 are needed."]
    assert caveats(facts(report=none)) == ["Safety-critical slice night was not judged: no samples."]
    assert caveats(facts(report=report({IOU: 0.6}, {}))) == caveats(facts(report=none))


def test_the_weakest_slice_is_named_with_its_distance(facts: Any) -> None:
    asked = parse_slices({"slices": [{"name": name, "min_samples": 10} for name in ("night", "rain", "fog")]})
    values = {"night": (0.5, 20), "rain": (0.3, 15), "fog": (0.1, 3)}
    parts = {name: SliceScore(samples=n, metrics={IOU: value}) for name, (value, n) in values.items()}
    found = caveats(facts(slices=asked, report=report({IOU: 0.6}, parts)))
    assert (
        f"Weakest slice by {IOU}: rain, 0.300 on 15 samples, 0.300 worse than 0.600 on the whole test split." in found
    )
    assert not any(line.startswith("Weakest") and "fog" in line for line in found)


def test_the_weakest_slice_by_an_error_is_where_it_is_largest(facts: Any) -> None:
    config = facts().config
    training = config.training.model_copy(update={"monitor": "segmentation/ECE"})
    asked = parse_slices({"slices": [{"name": name, "min_samples": 1} for name in ("night", "day")]})
    parts = {
        name: SliceScore(samples=9, metrics={"segmentation/ECE": v}) for name, v in (("night", 0.3), ("day", 0.01))
    }
    found = caveats(
        facts(
            config=config.model_copy(update={"training": training}),
            slices=asked,
            report=report({"segmentation/ECE": 0.1}, parts),
        )
    )
    assert found == ["Weakest slice by segmentation/ECE: night, 0.300 on 9 samples, 0.200 worse than 0.100 on the"
                     " whole test split."]  # fmt: skip


def with_intervals(value: float, low: float, high: float, samples: int = 12) -> EvalReport:
    night = SliceScore(samples=samples, metrics={IOU: value}, intervals={IOU: (low, high)})
    return report({IOU: value}, {"night": night})


def test_scores_stand_beside_their_intervals(facts: Any) -> None:
    text = model_card(facts(report=with_intervals(0.6123, 0.5512, 0.6634)))
    assert "| night (safety-critical) | 12 | 0.6123 (0.551…0.663) |" in text


def test_a_wide_interval_is_a_caveat_and_a_narrow_one_is_not(facts: Any) -> None:
    assert caveats(facts(report=with_intervals(0.6, 0.4, 0.69))) == []
    assert caveats(facts(report=with_intervals(0.6, 0.35, 0.75))) == [
        f"Little is known of {IOU} on night, 0.6 (0.35…0.75): more samples would tell."
    ]
    assert not any("Little is known" in line for line in caveats(facts(report=with_intervals(0.6, 0.1, 0.9, 9))))


def compared(**more: Any) -> EvalReport:
    changes = {
        "all": {IOU: Change(value=0.6, reference=0.61, interval=(-0.03, 0.01))},
        "night": {IOU: Change(value=0.6, reference=0.615, interval=(-0.02, -0.01))},
    }
    against = Comparison(run_id="pppppppp", checkpoint_sha256="d" * 64, **{"splits": {"test": changes}, **more})
    night = {"night": SliceScore(samples=12, metrics={IOU: 0.6})}
    return report({IOU: 0.6}, night).model_copy(update={"against": against})


def test_the_card_compares_with_production_slice_by_slice(facts: Any) -> None:
    text = model_card(facts(report=compared()))
    assert "Production is run pppppppp, run on the same samples." in text
    assert f"| all | {IOU} | 0.6 | 0.61 | -0.01 (-0.03…+0.01) | within noise |" in text
    assert f"| night | {IOU} | 0.6 | 0.615 | -0.015 (-0.02…-0.01) | worse |" in text
    assert "There was no other model in production." in model_card(facts())


def test_what_is_worse_beyond_noise_is_a_caveat_though_the_gates_allow_it(facts: Any) -> None:
    assert caveats(facts(report=compared())) == [
        f"Worse than production beyond noise: {IOU} on night, -0.015 (-0.02…-0.01)."
    ]


def test_lost_metrics_and_a_production_that_does_not_fit_are_caveats(facts: Any) -> None:
    lost = caveats(facts(report=compared(lost={"test": ("detection/AP",)})))
    assert lost[0] == "Production has detection/AP, which this model has not."
    misfit = compared(splits={}, misfit="does not know ['tram']")
    assert caveats(facts(report=misfit)) == [
        "Not compared with production (run pppppppp), which does not fit this data: does not know ['tram']."
    ]


def test_calibration_has_its_own_table_with_the_limit(facts: Any) -> None:
    judged = report({IOU: 0.6, "segmentation/ECE": 0.04}, {"night": SliceScore(samples=12, metrics={})})
    assert "| segmentation/ECE | 0.04 | 0.15 |" in model_card(facts(report=judged))
    assert "No task of this model tells how sure it is." in model_card(facts())


def test_classes_without_samples_and_classes_that_are_hardly_found_are_told_apart(facts: Any) -> None:
    night = {"night": SliceScore(samples=12, metrics={})}
    metrics: dict[str, float | None] = {
        "segmentation/IoU/road": 0.8,
        "segmentation/IoU/car": None,
        "segmentation/IoU/pole": 0.05,
        "detection/AP/bus": 0.05,
        "detection/AP50/bus": 0.3,
    }
    assert caveats(facts(report=report(metrics, night))) == [
        "No samples of car in the test split: how segmentation does on them is not known.",
        "segmentation hardly finds pole: a score below 0.1.",
    ]


@pytest.mark.parametrize(
    ("licence", "warned"),
    [
        ("CC-BY-NC-4.0 (research use only)", True),
        ("unstated", True),
        ("Non-commercial", True),
        ("CC0-1.0", False),
        ("Apache-2.0", False),
        ("CC-BY-4.0", False),
    ],
)
def test_a_licence_that_forbids_products_is_called_out(facts: Any, licence: str, warned: bool) -> None:
    found = caveats(facts(provenance=replace(facts().provenance, licences={licence: 7})))
    assert any(licence in line and line.startswith("7 frames") for line in found) is warned


def test_assigned_capture_times_missing_windows_and_unknown_code_are_called_out(facts: Any) -> None:
    found = caveats(
        facts(
            provenance=replace(facts().provenance, captured_at_sources={"recorded": 8, "assigned": 70}),
            training_set=facts().training_set.model_copy(update={"windows_missing": ("2025-12-29",)}),
            code=CodeVersion(git_sha=None, dirty=None, lock_sha256=None),
        )
    )
    assert found[0].startswith("70 of 78 frames have an assigned capture time")
    assert found[1] == "Trained on 2 of 3 windows: 2025-12-29 had no rows."
    assert found[2].startswith("The commit of the code is not known")


def test_without_an_int8_file_or_samples_to_judge_it_by_the_card_says_so(facts: Any) -> None:
    exports = facts().exports
    unjudged = exports.quantization.model_copy(update={"losses": {}})
    for quantization, said in ((None, "There is no int8 file"), (unjudged, "model.int8.onnx was not judged")):
        text = model_card(facts(exports=exports.model_copy(update={"quantization": quantization})))
        assert said in text
        assert "| metric | eager | int8 | loss |" not in text


def test_a_failed_gate_is_the_first_caveat(facts: Any) -> None:
    row = GateRow(metric=IOU, value=0.1, limit=0.5, passed=False, verdict="failed", margin=-0.4)
    failed = GateResult(name="targets_met", passed=False, severity="block", rows=(row,))
    assert caveats(facts(gates=(failed,)))[0] == "Gate targets_met is not passed: the model must not be released."


def test_a_warning_of_a_gate_inside_the_training_is_a_caveat(facts: Any) -> None:
    spikes = Verdict(gate="loss_spikes", passed=False, severity="warn", message="1 loss spike")
    fine = Verdict(gate="drift", passed=True, severity="abort", message="nothing")
    result = facts().result.model_copy(update={"gates": (spikes, fine)})
    assert caveats(facts(result=result)) == ["Gate loss_spikes inside the training warned: 1 loss spike."]
