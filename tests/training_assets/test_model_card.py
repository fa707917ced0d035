"""The model card: its figures are those of its inputs, and its caveats follow from them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from trainer.contract.eval_report import EvalReport, SliceScore, SplitScore
from trainer.contract.results import Epoch, Exports, TrainResult, Verdict
from trainer.contract.slices import parse_slices
from trainer.contract.train_config import TrainConfig
from training_assets.gates import GateResult, GateRow
from training_assets.lineage import Counts
from training_assets.model_card import CardInputs, caveats, model_card
from training_assets.records import DatasetVersion, TrainingSet
from training_assets.stores.source import CodeVersion

IOU = "segmentation/mIoU"
TIMING = {
    "batch": 1,
    "p50_ms": 1.25,
    "p95_ms": 2.5,
    "p99_ms": 3.0,
    "samples_per_second": 700.0,
    "peak_memory_bytes": None,
    "repeats": 40,
    "pinned": True,
}
MEASURED = {"latency": TIMING, "throughput": {**TIMING, "batch": 8}}


def card(**changes: Any) -> CardInputs:
    """A model without anything to warn of; ``changes`` replace inputs."""
    config = TrainConfig.model_validate(
        {
            "name": "tiny",
            "project": "tests",
            "description": "Finds the road.",
            "data": {"image_size": [64, 96]},
            "tasks": {"segmentation": {"classes": ["road", "car"]}},
            "training": {"monitor": IOU},
        }
    )
    metrics = {IOU: 0.6, "segmentation/IoU/road": 0.8, "segmentation/IoU/car": 0.4}
    dataset = DatasetVersion(
        version="5" * 64,
        directory="datasets/5",
        files={},
        dvc_hash="77.dir",
        rows={"train": 40},
        labels={},
        windows={"2026-01-05": 15, "2026-01-12": 25, "2026-01-19": 99},
        licences={"CC0-1.0": 40},
    )
    inputs = CardInputs(
        config=config,
        slices=parse_slices({"slices": [{"name": "night", "safety_critical": True, "min_samples": 10}]}),
        dataset=dataset,
        training_set=TrainingSet(
            recipe="tiny",
            window="2026-01-12",
            directory="training_sets/tiny",
            digest="6" * 64,
            windows_found=("2026-01-05", "2026-01-12"),
            windows_missing=(),
            slices=(),
            samples=40,
            dataset=dataset,
        ),
        provenance=Counts(
            splits={"train": 40, "val": 8, "test": 30},
            origins={"fleet": 78},
            licences={"CC0-1.0": 78},
            captured_at_sources={"recorded": 78},
            first=datetime(2026, 1, 5, tzinfo=UTC),
            last=datetime(2026, 1, 18, tzinfo=UTC),
        ),
        result=TrainResult(
            run_id="ab12cd34",
            recipe="tiny",
            config_digest=config.digest,
            data_digest="6" * 64,
            seed=42,
            world_size=2,
            global_step=100,
            epochs=(Epoch(epoch=1, global_step=100, losses={"total": 1.0}, metrics={IOU: 0.61}, seconds=1.0),),
            monitor=IOU,
            best_metric=0.61,
            best_step=100,
            samples_per_second=10.0,
            train_seconds=1.0,
            resumed_from_step=None,
            state_sha256="9" * 64,
            stop_reason="max_epochs",
            gates=(),
            parameters=12345,
            best_checkpoint="best.pt",
            last_checkpoint="checkpoints/100",
        ),
        report=report(metrics, {"night": SliceScore(samples=12, metrics={IOU: 0.6})}),
        exports=Exports.model_validate(
            {
                "checkpoint_sha256": "c" * 64,
                "inputs": {"image": (1, 3, 64, 96)},
                "outputs": ("logits",),
                "parameters": 12345,
                "flops": 1e6,
                "eager": MEASURED,
                "files": [
                    {
                        "name": "model.onnx",
                        "format": "onnx",
                        "bytes": 9,
                        "sha256": "0" * 64,
                        "max_relative_error": 1e-6,
                        **MEASURED,
                    }
                ],
                "quantization": None,
                "tensorrt": {"command": "trtexec", "command_file": "command.txt", "plan": None, "note": ""},
            }
        ),
        gates=(GateResult(name="targets_met", passed=True, severity="block", rows=()),),
        code=CodeVersion(git_sha="d" * 40, dirty=False, lock_sha256="e" * 64),
    )
    return replace(inputs, **changes)


def report(metrics: dict[str, float | None], slices: dict[str, SliceScore]) -> EvalReport:
    test = SplitScore(samples=30, metrics=metrics, slices=slices)
    return EvalReport(
        run_id="ab12cd34", recipe="tiny", checkpoint_sha256="c" * 64, data_digest="a" * 64, splits={"test": test}
    )


def test_the_card_holds_the_figures_of_its_inputs() -> None:
    text = model_card(card())
    for expected in (
        "# tiny, run ab12cd34",
        "Finds the road.",
        "segmentation of road, car",
        "RGB images of 96×64",
        "| whole test split | 30 | 0.6 |",
        "| night (safety-critical) | 12 | 0.6 |",
        "| segmentation/IoU/car | 0.4 |",
        "| model.onnx | 1.25 | 2.5 | 1e-06 | 9 |",
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


def test_the_same_inputs_make_the_same_card() -> None:
    assert model_card(card()) == model_card(card())


def test_a_model_without_blemish_has_no_caveats() -> None:
    assert caveats(card()) == []
    assert "no reason for one" in model_card(card())


def test_a_slice_that_is_too_small_or_empty_is_called_out_and_never_the_weakest() -> None:
    few = report({IOU: 0.6}, {"night": SliceScore(samples=9, metrics={IOU: 0.0})})
    none = report({IOU: 0.6}, {"night": SliceScore(samples=0, metrics={IOU: None})})
    assert caveats(card(report=few)) == ["Safety-critical slice night was not judged: 9 samples, 10 are needed."]
    assert caveats(card(report=none)) == ["Safety-critical slice night was not judged: no samples."]
    assert caveats(card(report=report({IOU: 0.6}, {}))) == caveats(card(report=none))


def test_the_weakest_slice_is_named_with_its_distance() -> None:
    asked = parse_slices({"slices": [{"name": name, "min_samples": 10} for name in ("night", "rain", "fog")]})
    values = {"night": (0.5, 20), "rain": (0.3, 15), "fog": (0.1, 3)}
    parts = {name: SliceScore(samples=n, metrics={IOU: value}) for name, (value, n) in values.items()}
    found = caveats(card(slices=asked, report=report({IOU: 0.6}, parts)))
    assert f"Weakest slice by {IOU}: rain, 0.300 on 15 samples, 0.300 below 0.600 on the whole test split." in found
    assert not any(line.startswith("Weakest") and "fog" in line for line in found)


def test_classes_without_samples_and_classes_that_are_hardly_found_are_told_apart() -> None:
    night = {"night": SliceScore(samples=12, metrics={})}
    metrics: dict[str, float | None] = {
        "segmentation/IoU/road": 0.8,
        "segmentation/IoU/car": None,
        "segmentation/IoU/pole": 0.05,
        "detection/AP/bus": 0.05,
        "detection/AP50/bus": 0.3,
    }
    assert caveats(card(report=report(metrics, night))) == [
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
def test_a_licence_that_forbids_products_is_called_out(licence: str, warned: bool) -> None:
    found = caveats(card(provenance=replace(card().provenance, licences={licence: 7})))
    assert any(licence in line and line.startswith("7 frames") for line in found) is warned


def test_assigned_capture_times_missing_windows_and_unknown_code_are_called_out() -> None:
    found = caveats(
        card(
            provenance=replace(card().provenance, captured_at_sources={"recorded": 8, "assigned": 70}),
            training_set=card().training_set.model_copy(update={"windows_missing": ("2025-12-29",)}),
            code=CodeVersion(git_sha=None, dirty=None, lock_sha256=None),
        )
    )
    assert found[0].startswith("70 of 78 frames have an assigned capture time")
    assert found[1] == "Trained on 2 of 3 windows: 2025-12-29 had no rows."
    assert found[2].startswith("The commit of the code is not known")


def test_a_failed_gate_is_the_first_caveat() -> None:
    row = GateRow(metric=IOU, value=0.1, limit=0.5, passed=False, verdict="failed", margin=-0.4)
    failed = GateResult(name="targets_met", passed=False, severity="block", rows=(row,))
    assert caveats(card(gates=(failed,)))[0] == "Gate targets_met is not passed: the model must not be released."


def test_a_warning_of_a_gate_inside_the_training_is_a_caveat() -> None:
    spikes = Verdict(gate="loss_spikes", passed=False, severity="warn", message="1 loss spike")
    fine = Verdict(gate="drift", passed=True, severity="abort", message="nothing")
    result = card().result.model_copy(update={"gates": (spikes, fine)})
    assert caveats(card(result=result)) == ["Gate loss_spikes inside the training warned: 1 loss spike."]
