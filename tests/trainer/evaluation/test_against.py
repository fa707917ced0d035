"""A model that is worse at night alone, beside one that is not: what ``evaluate --against`` says, and what the gate.

Both are the same random features with a classifier fitted to them (ridge regression): one on all images, the other
never saw a dark one. Nothing is pretended; it is trained in a second.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from trainer.__main__ import main
from trainer.contract.eval_report import EvalReport
from trainer.contract.slices import read_slices
from trainer.contract.train_config import read_config
from trainer.data.loader import EvaluationSamples, open_data
from trainer.data.staging import data_directory
from trainer.engine.checkpointer import Checkpointer
from trainer.engine.parallel import Ranks
from trainer.models.hydranet import HydraNet
from trainer.tasks import build_tasks

IOU = "segmentation/mIoU"


@pytest.fixture(scope="module")
def dark(dark_delivery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_directory(dark_delivery, tmp_path_factory.mktemp("staged"), lambda text: None)


def fitted(recipe: Path, data: Path, out: Path, times: set[str]) -> Path:
    """A checkpoint whose segmentation is fitted to the train images of ``times`` of day."""
    torch.manual_seed(0)
    config = read_config(recipe, ["model.width=16", "model.neck_channels=32"])
    reader, tasks = open_data(data, ["train"]).readers["train"], build_tasks(config.tasks)
    samples = EvaluationSamples(reader, config.data, {task.name: task.observed for task in tasks})
    model = HydraNet(config.model, tasks)
    everything = [samples[index] for index in range(len(reader))]
    model.train()({"image": torch.stack([given["image"] for _, given in everything])})
    head, seen = model.heads["segmentation"], []
    head.classify.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.eval()
    chosen = [(sample, given) for sample, given in everything if sample.row.attributes["time_of_day"] in times]
    with torch.no_grad():
        model({"image": torch.stack([given["image"] for _, given in chosen])})
        features = seen[0].permute(0, 2, 3, 1).reshape(-1, seen[0].shape[1]).double()
        masks = torch.from_numpy(np.stack([sample.mask[2::4, 2::4] for sample, _ in chosen])).flatten().long()
        known = torch.cat([features, torch.ones(len(features), 1, dtype=torch.float64)], dim=1)
        wanted = 4.0 * torch.nn.functional.one_hot(masks, 2).double()
        weights = torch.linalg.solve(known.T @ known + 1e-2 * torch.eye(known.shape[1]), known.T @ wanted)
        head.classify.weight.copy_(weights[:-1].T[:, :, None, None])
        head.classify.bias.copy_(weights[-1])
    state = {"config": config.model_dump_json(), "run_id": out.name, "global_step": 1, "model": model.state_dict()}
    Checkpointer(out, Ranks(0, 1, torch.device("cpu")), 1).save_best(state)
    return out / "best.pt"


@pytest.fixture(scope="module")
def report(recipe: Path, dark: Path, tmp_path_factory: pytest.TempPathFactory) -> EvalReport:
    """The worse model's report. Judged on train too, for there are more nights in it."""
    root = tmp_path_factory.mktemp("models")
    production = fitted(recipe, dark, root / "production", {"day", "night"})
    blind = fitted(recipe, dark, root / "nightblind", {"day"})
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
    assert f"{IOU} on night: {change.value:.6g} against {row.limit:.6g}, {-row.margin:.3g} too far" in gate.failures
