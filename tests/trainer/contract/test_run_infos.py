"""How runs went, read from their directories, as one table and one score."""

import math

import pandas as pd
import pytest

from trainer.contract.cross_validation import plan_of, write_plan
from trainer.contract.results import Epoch, Failure, TrainResult
from trainer.contract.run_infos import note_failure, read_score, summarise
from trainer.contract.train_config import read_config

DIGEST = "0" * 64
COLUMNS = {
    "run_name", "run_id", "fold", "seed", "duration", "checkpoint", "is_unstable", "score", "score_is_unstable",
}  # fmt: skip


@pytest.fixture
def plan(recipe, tmp_path):
    asked = "{folds: 2, method: kfold, seeds: 1, score: {metrics: [segmentation/mIoU, detection/AP], mean: min}}"
    plan = plan_of("cv", None, read_config(recipe, [f"cross_validation={asked}"], environment={}), DIGEST)
    write_plan(tmp_path, plan)
    return plan


def finish(directory, plan, number, *metrics, best=1):
    """A finished run with these metrics after each epoch, of which number ``best`` was the best."""
    run = plan.runs[number]
    epochs = [
        Epoch(epoch=place, global_step=10 * place + 10, losses={}, metrics=one, seconds=1)
        for place, one in enumerate(metrics)
    ]
    result = TrainResult(
        run_id=run.run_id, recipe="tiny", config_digest=DIGEST, data_digest=DIGEST, seed=42, world_size=1,
        global_step=10 * len(epochs), epochs=tuple(epochs), monitor="segmentation/mIoU",
        best_metric=0.5, best_step=10 * best, samples_per_second=1, train_seconds=3, run_seconds=5,
        resumed_from_step=None, state_sha256=DIGEST, stop_reason="max_epochs", gates=(), parameters=1,
        best_checkpoint="best.pt", last_checkpoint=None,
    )  # fmt: skip
    place = directory / plan.directory_of(run)
    place.mkdir(exist_ok=True)
    (place / "result.json").write_text(result.model_dump_json())


def of(iou, ap):
    return {"segmentation/mIoU": iou, "detection/AP": ap}


def test_the_metrics_are_those_of_the_best_checkpoint_not_of_the_last(plan, tmp_path):
    finish(tmp_path, plan, 0, of(0.2, 0.1), of(0.8, 0.4), of(0.1, 0.9), best=2)
    finish(tmp_path, plan, 1, of(0.6, 0.5), of(0.3, 0.3))
    result = summarise(tmp_path)
    assert result.score == pytest.approx((0.4 + 0.5) / 2)
    assert not result.score_is_unstable
    assert result == read_score(tmp_path)
    table = pd.read_parquet(tmp_path / "run_infos.parquet")
    assert set(table.columns) == COLUMNS | {"segmentation/mIoU", "detection/AP"}
    assert table["segmentation/mIoU"].tolist() == [0.8, 0.6]
    assert table["duration"].tolist() == [5, 5]
    assert table["score"].tolist() == [result.score] * 2
    assert table["checkpoint"].tolist() == [f"{plan.directory_of(run)}/best.pt" for run in plan.runs]


def test_there_is_no_score_before_every_run_has_ended(plan, tmp_path):
    finish(tmp_path, plan, 0, of(0.6, 0.5))
    assert summarise(tmp_path) is None
    assert read_score(tmp_path) is None
    assert not (tmp_path / "run_infos.parquet").exists()


def test_a_failed_run_is_named_and_makes_the_score_unstable_and_not_better(plan, tmp_path):
    finish(tmp_path, plan, 0, of(0.6, 0.5))
    note_failure(tmp_path, plan, plan.runs[1], Failure(kind="not_finite", message="the loss is nan", rank=0))
    result = summarise(tmp_path)
    assert result.score == pytest.approx(0.25)
    assert result.score_is_unstable
    assert [run.run_name for run in result.failed] == ["cv-run-f1s42"]
    table = pd.read_parquet(tmp_path / "run_infos.parquet")
    assert table["is_unstable"].tolist() == [False, True]
    assert table["score_is_unstable"].tolist() == [True, True]
    assert math.isnan(table["segmentation/mIoU"][1])
    finish(tmp_path, plan, 1, of(0.6, 0.5))  # trained again, with a result this time
    assert summarise(tmp_path).score == pytest.approx(0.5)


def test_a_scoring_metric_of_exactly_nought_is_unstable(plan, tmp_path):
    finish(tmp_path, plan, 0, of(0.6, 0.0))
    finish(tmp_path, plan, 1, of(0.6, 0.5))
    result = summarise(tmp_path)
    assert [run.is_unstable for run in result.runs] == [True, False]
    assert result.score_is_unstable
