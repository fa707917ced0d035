"""A model that is worse at night alone, beside one that is not: what ``evaluate --against`` says, and what the gate.

Both are the same random backbone with a segmentation head that learnt for a second: one from all images, the other
never saw a dark one.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.__main__ import main
from trainer.contract.eval_report import EvalReport
from trainer.contract.slices import read_slices
from trainer.contract.train_config import read_config
from trainer.data.loader import EvaluationSamples, open_data, single_threaded
from trainer.data.staging import data_directory
from trainer.engine.checkpointer import Checkpointer
from trainer.engine.parallel import Ranks
from trainer.models.hydranet import HydraNet
from trainer.tasks import build_tasks

IOU = "segmentation/mIoU"
IMAGES, STEPS = 16, 30


@pytest.fixture(scope="module")
def dark(dark_delivery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_directory(dark_delivery, tmp_path_factory.mktemp("staged"), lambda text: None)


def trained(recipe: Path, data: Path, out: Path, times: set[str]) -> Path:
    """A checkpoint whose segmentation head has learnt from the train images of ``times`` of day."""
    torch.manual_seed(0)
    single_threaded()
    weights = "tasks.segmentation.options={class_weights: [1.0, 4.0]}"
    config = read_config(recipe, ["model.neck_channels=32", weights])
    reader, tasks = open_data(data, ["train"]).readers["train"], build_tasks(config.tasks)
    samples = EvaluationSamples(reader, config.data, {task.name: task.observed for task in tasks})
    everything = [samples[index] for index in range(IMAGES)]
    model = HydraNet(config.model, tasks)
    model.train()({"image": torch.stack([given["image"] for _, given in everything])})
    chosen = [(sample, given) for sample, given in everything if sample.row.attributes["time_of_day"] in times]
    task, head, seen = tasks[1], model.heads["segmentation"], []
    with torch.no_grad():
        hook = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        model.eval()({"image": torch.stack([given["image"] for _, given in chosen])})
        hook.remove()
    masks = {"mask": torch.from_numpy(np.stack([task.scored(sample.mask) for sample, _ in chosen]))}
    optimizer = torch.optim.Adam(head.parameters(), lr=0.03)
    for _ in range(STEPS):
        optimizer.zero_grad()
        task.loss(head.train()(seen[0]), masks).backward()
        optimizer.step()
    state = {"config": config.model_dump_json(), "run_id": out.name, "global_step": STEPS, "model": model.state_dict()}
    Checkpointer(out, Ranks(0, 1, torch.device("cpu")), 1).save_best(state)
    return out / "best.pt"


@pytest.fixture(scope="module")
def report(recipe: Path, dark: Path, tmp_path_factory: pytest.TempPathFactory) -> EvalReport:
    """The worse model's report. Judged on train too, for there are more nights in it."""
    root = tmp_path_factory.mktemp("models")
    production = trained(recipe, dark, root / "production", {"day", "night"})
    blind = trained(recipe, dark, root / "nightblind", {"day"})
    out = root / "evaluation"
    asked = ["--data", str(dark), "--out", str(out), "--split", "train", "--against", str(production)]
    assert main(["evaluate", str(blind), *asked]) == 0
    return EvalReport.model_validate_json((out / "eval_report.json").read_bytes())


def test_the_loss_shows_on_the_slice_that_it_is_on_beyond_noise_and_nowhere_else(report: EvalReport) -> None:
    assert report.against is not None
    changes = report.against.splits["train"]
    night, day = changes["night"][IOU], changes["day"][IOU]
    assert night.reference > 0.6, "production sees at night"
    assert night.value < night.reference - 0.1
    assert night.interval[1] < -0.02
    assert day.value > day.reference - 0.02


def test_the_comparison_is_of_the_same_samples(report: EvalReport) -> None:
    assert report.against is not None
    assert report.against.lost == {"train": ()}
    for name, part in {"all": report.splits["train"], **report.splits["train"].slices}.items():
        assert report.against.splits["train"][name][IOU].value == part.metrics[IOU]
        low, high = part.intervals[IOU]
        assert low <= part.metrics[IOU] <= high


def test_the_regression_gate_stops_it_and_says_where_and_by_how_much(
    report: EvalReport, recipe: Path, dark: Path
) -> None:
    from training_assets.gates import no_regression

    assert report.against is not None
    test = {"splits": {"test": report.splits["train"]}}
    against = report.against.model_copy(update={"splits": {"test": report.against.splits["train"]}})
    judged = report.model_copy(update={**test, "against": against})
    slices = read_slices(dark / "slices.yaml")
    gate = no_regression(judged, slices, read_config(recipe), against.checkpoint_sha256)
    assert gate.blocks
    failed = {(row.metric, row.slice): row for row in gate.rows if row.passed is False}
    row = failed[IOU, "night"]
    change = against.splits["test"]["night"][IOU]
    assert row.margin == pytest.approx(change.value - change.reference + 0.02)
    assert (IOU, "day") not in failed
    by = change.reference - change.value
    said = f"night: segmentation mIoU {change.value:.4g}, production {change.reference:.4g}: worse by {by:.3g}"
    assert f"{said} (allowed 0.02)" in gate.failures
