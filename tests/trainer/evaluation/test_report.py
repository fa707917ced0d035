import json
from itertools import chain

import numpy as np
import pytest

from trainer.__main__ import main
from trainer.contract.charts import read_charts
from trainer.contract.errors import ContractError
from trainer.contract.eval_report import EvalReport
from trainer.data.loader import open_data
from trainer.data.staging import data_directory
from trainer.evaluation.evaluate import evaluate, score
from trainer.evaluation.model import load_checkpoint
from trainer.evaluation.slices import parts_of, score_split


@pytest.fixture
def data(delivery, tmp_path):
    return data_directory(delivery, tmp_path, lambda text: None)


def test_the_report_holds_every_split_and_slice_with_its_sample_count(checkpoint, data, tmp_path):
    assert main(["evaluate", str(checkpoint), "--data", str(data), "--out", str(tmp_path / "out")]) == 0
    report = EvalReport.model_validate_json((tmp_path / "out" / "eval_report.json").read_bytes())
    assert {split: one.samples for split, one in report.splits.items()} == {"val": 8, "test": 8}
    assert report.splits["test"].slices["night"].samples == 2
    assert set(report.splits["test"].metrics) >= {"segmentation/mIoU", "segmentation/IoU/car", "detection/AP50/car"}


def test_charts_tell_the_same_figures_as_the_report_and_their_pictures_lie_beside_them(checkpoint, data, tmp_path):
    assert main(["evaluate", str(checkpoint), "--data", str(data), "--out", str(tmp_path), "--split", "test"]) == 0
    report = EvalReport.model_validate_json((tmp_path / "eval_report.json").read_bytes())
    charts = read_charts(tmp_path)
    assert charts.checkpoint_sha256 == report.checkpoint_sha256
    assert all((tmp_path / name).stat().st_size > 500 for name in charts.files())
    found = {(one.task, one.chart.kind): one.chart for one in charts.splits["test"].drawings}
    assert set(found) == {
        ("detection", "precision_recall"), ("detection", "reliability"), ("detection", "confusion"),
        ("segmentation", "roc"), ("segmentation", "reliability"), ("segmentation", "confusion"),
    }  # fmt: skip
    metrics = report.splits["test"].metrics
    assert found["detection", "precision_recall"].lines[0].summary == pytest.approx(metrics["detection/AP50/car"])
    assert found["segmentation", "reliability"].lines[0].summary == pytest.approx(metrics["segmentation/ECE"])
    pixels = np.array(found["segmentation", "confusion"].counts)
    assert pixels.sum() == 8 * 64 * 64
    assert pixels.trace() / pixels.sum() == pytest.approx(metrics["segmentation/pixel_accuracy"])
    assert np.array(found["detection", "confusion"].counts)[0].sum() == 8, "each car has a place in its row"


def test_each_task_shows_its_own_best_and_worst_samples(checkpoint, data, tmp_path):
    assert main(["evaluate", str(checkpoint), "--data", str(data), "--out", str(tmp_path), "--split", "val"]) == 0
    opened, loaded = open_data(data, ["val"]), load_checkpoint(checkpoint)
    evaluated = evaluate(loaded.model, loaded.tasks, opened.readers["val"], loaded.config.data, range(8), "cpu")
    alone = {one.row.sample_id: score([one], loaded.tasks)["segmentation/mIoU"] for one in evaluated}
    (sheet,) = (one for one in read_charts(tmp_path).splits["val"].sheets if one.task == "segmentation")
    assert sheet.metric == "segmentation/mIoU"
    assert {one.sample_id: one.value for one in (*sheet.best, *sheet.worst)} == pytest.approx(alone)
    values = [one.value for one in (*sheet.best, *sheet.worst[::-1])]
    assert values == sorted(values, reverse=True)


def test_a_slices_metrics_are_those_of_its_samples_alone(checkpoint, data):
    loaded, opened = load_checkpoint(checkpoint), open_data(data)
    reader = opened.readers["train"]
    everything = evaluate(loaded.model, loaded.tasks, reader, loaded.config.data, range(len(reader)), "cpu")
    night = [i for i in range(len(reader)) if reader.row(i).attributes["time_of_day"] == "night"]
    alone = evaluate(loaded.model, loaded.tasks, reader, loaded.config.data, night, "cpu")
    split = score_split(parts_of(everything, loaded.tasks, opened.slices), opened.slices)
    assert 0 < len(night) < len(reader)
    assert split.slices["night"].samples == len(night)
    expected = score(alone, loaded.tasks)
    assert {k: v for k, v in split.slices["night"].metrics.items() if v is not None} == pytest.approx(
        {k: v for k, v in expected.items() if v is not None}, abs=1e-6
    )


def test_two_ranks_shares_together_score_as_one(checkpoint, data):
    loaded, reader = load_checkpoint(checkpoint), open_data(data).readers["train"]
    one, *shares = (
        evaluate(loaded.model, loaded.tasks, reader, loaded.config.data, part, "cpu")
        for part in (range(48), range(0, 48, 2), range(1, 48, 2))
    )
    together = sorted(chain(*shares), key=lambda sample: sample.index)
    assert [sample.index for sample in together] == list(range(48))
    for ours, theirs in zip(together, one, strict=True):
        ours_counted, theirs_counted = (one.records["segmentation"].confusion for one in (ours, theirs))
        assert np.abs(ours_counted - theirs_counted).sum() <= 4


def test_a_split_without_samples_of_a_slice_says_none_not_zero(checkpoint, data):
    loaded, opened = load_checkpoint(checkpoint), open_data(data)
    empty = score_split(parts_of([], loaded.tasks, opened.slices), opened.slices)
    assert empty.samples == 0
    assert empty.metrics["segmentation/mIoU"] is None
    assert empty.metrics["detection/AP"] is None
    assert json.loads(empty.model_dump_json())["slices"]["night"]["samples"] == 0


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ContractError, match=r"nothing\.pt"):
        load_checkpoint(tmp_path / "nothing.pt")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"semantic": {"classes": ["car", "road"]}}, "classes"),
        ({"semantic": {"classes": ["road", "car"], "ignore_id": 0}}, "ignore_id"),
        ({"boxes": ["car", "tram"]}, "tram"),
    ],
)
def test_data_whose_labels_mean_another_thing_is_not_judged(checkpoint, data, tmp_path, capsys, labels, said):
    (data / "slices.yaml").write_text(json.dumps({"labels": labels}))
    assert main(["evaluate", str(checkpoint), "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out" / "eval_report.json").exists()


def test_a_split_that_the_data_does_not_have_is_named(checkpoint, data, tmp_path, capsys):
    spec = json.loads((data / "data.json").read_text())
    (data / "data.json").write_text(json.dumps(spec | {"splits": {"val": spec["splits"]["val"]}}))
    assert main(["evaluate", str(checkpoint), "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    assert "'test'" in capsys.readouterr().err
