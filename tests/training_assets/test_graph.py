"""The assets: what they hand on, what they refuse, what a second materialisation does."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.contract.delivery import read_delivery
from trainer.contract.shard_index import read_data_spec, read_index
from training_assets.launchers import Status
from training_assets.records import Checkpoint, DatasetVersion, EvalShards, Evaluation, ShardList, TrainingSet

WINDOWS = ("2026-01-05", "2026-01-12")
PREPARED = ("dataset_version", "eval_shards")


def edit(graph: Any, file: str, old: str, new: str) -> None:
    assert old in (graph.delivery / file).read_text()
    graph.edit(file, lambda text: text.replace(old, new, 1))


def test_dataset_version_counts_what_the_delivery_holds(graph: Any) -> None:
    assert graph.run("dataset_version").success
    record = graph.record("dataset_version", DatasetVersion)
    assert record.version == read_delivery(graph.delivery).digest
    assert record.rows == {"train": 48, "val": 8, "test": 8}
    assert sum(record.windows.values()) == 48
    assert record.labels["boxes"] == record.labels["semantic"] == 64
    facts = json.loads((graph.places.absolute(record.directory) / "facts.json").read_text())
    assert facts["slices"]["night"] == {"train": 12, "val": 2, "test": 2}
    assert facts["attributes"]["time_of_day"] == {"day": 48, "night": 16}
    assert facts["licences"] == {"CC0-1.0": 64}


def test_a_bad_delivery_is_refused_with_every_problem_and_not_retried(graph: Any, failure: Any) -> None:
    edit(graph, "golden_val.manifest", '"category": "car"', '"category": "tram"')
    edit(graph, "golden_val.manifest", "val001", "val000")
    result = graph.run("dataset_version")
    assert not result.success
    assert "'tram'" in failure(result)
    assert "a sample_id used once" in failure(result)
    assert len([event for event in result.all_events if event.is_step_start]) == 1


def test_features_have_a_row_for_each_sample(graph: Any) -> None:
    import pandas as pd

    assert graph.run("dataset_version").success
    directory = graph.places.absolute(graph.record("dataset_version", DatasetVersion).directory)
    features = pd.read_parquet(directory / "features.parquet")
    assert len(features) == 64
    assert set(features["split"]) == {"train", "val", "test"}
    assert (features["luma_mean"] > 0).all()
    assert (features["boxes.car"] == 1).all()


def test_a_range_of_windows_is_staged_by_one_launch_and_each_row_once(staged: Any) -> None:
    assert len(staged.trainer.commands("shard")) == 1 + 1  # the windows; val and test
    lists = [staged.record("staged_shards", ShardList, window) for window in WINDOWS]
    names = [
        sample.row.sample_id
        for part in lists
        for shard in part.shards
        for sample in read_index(staged.places.shards / f"{shard.key}.json").samples
    ]
    assert len(names) == len(set(names)) == 48
    assert staged.metadata("staged_shards", WINDOWS[0])["samples"] == lists[0].samples


def test_a_second_materialisation_stages_nothing(staged: Any) -> None:
    before = {path: path.stat().st_ino for path in staged.places.shards.iterdir()}
    assert staged.run("staged_shards", windows=WINDOWS).success
    assert staged.run("eval_shards").success
    for window in WINDOWS:
        assert staged.metadata("staged_shards", window)["bytes_staged"] == 0
        assert staged.metadata("staged_shards", window)["bytes_reused"] > 0
    assert {path: path.stat().st_ino for path in staged.places.shards.iterdir()} == before


def test_a_training_set_is_its_windows_and_val_but_never_test(staged: Any) -> None:
    assert staged.run("tiny/training_set", window=WINDOWS[1]).success
    record = staged.record("tiny/training_set", TrainingSet, WINDOWS[1])
    assert record.windows_found == WINDOWS
    assert record.samples == 48
    spec = read_data_spec(staged.places.absolute(record.directory))
    assert spec.digest == record.digest
    assert set(spec.splits) == {"train", "val"}
    for name in (name for names in spec.splits.values() for name in names):
        assert not Path(name).is_absolute()
        assert (staged.places.absolute(record.directory) / name).is_file()


def test_a_training_set_names_the_windows_that_are_missing(staged: Any) -> None:
    assert staged.run("tiny/training_set", window=WINDOWS[0]).success
    record = staged.record("tiny/training_set", TrainingSet, WINDOWS[0])
    assert record.windows_missing == ("2025-12-29",)
    assert staged.metadata("tiny/training_set", WINDOWS[0])["windows_found"] == 1


def test_a_recipe_that_does_not_fit_the_data_is_refused(staged: Any, failure: Any) -> None:
    path = staged.profile.recipes / "tiny.yaml"
    path.write_text(path.read_text().replace("- road\n", "- sky\n"))
    result = staged.edited().run("tiny/training_set", window=WINDOWS[1])
    assert "tiny does not fit this data: task segmentation has classes" in failure(result)


def test_the_chain_hands_records_on_to_the_evaluation(staged: Any) -> None:
    chain = ("tiny/training_set", "tiny/checkpoint", "tiny/exported_model", "tiny/eval_report")
    assert staged.run(*chain, window=WINDOWS[1]).success
    checkpoint = staged.record("tiny/checkpoint", Checkpoint, WINDOWS[1])
    report = staged.record("tiny/eval_report", Evaluation, WINDOWS[1]).report
    assert report.checkpoint_sha256 == checkpoint.sha256
    assert report.run_id == checkpoint.run_id
    assert set(report.splits) == {"val", "test"}
    assert staged.trainer.commands("train")[0].distributed
    assert staged.metadata("tiny/eval_report", WINDOWS[1])["test/segmentation/mIoU"] == pytest.approx(0.7)


@pytest.mark.slow
def test_a_retried_step_resumes_the_same_run_and_a_new_run_does_not(staged: Any) -> None:
    assert staged.run("tiny/training_set", window=WINDOWS[1]).success
    crash, train = {"left": 1}, staged.trainer.poll

    def poll(handle: Any) -> Any:
        if handle.spec.what == "train" and crash["left"]:
            crash["left"] -= 1
            return Status("failed", 1, "train exited with code 1")
        return train(handle)

    staged.trainer.poll = poll
    assert staged.run("tiny/checkpoint", window=WINDOWS[1]).success
    first, second = staged.trainer.commands("train")
    assert first.run_dir == second.run_dir
    assert first.attempt != second.attempt
    assert staged.run("tiny/checkpoint", window=WINDOWS[1]).success
    assert staged.trainer.commands("train")[2].run_dir != first.run_dir


def test_refused_input_is_not_retried_and_says_the_last_lines(staged: Any, failure: Any) -> None:
    assert staged.run("tiny/training_set", window=WINDOWS[1]).success
    staged.trainer.poll = lambda handle: Status("failed", 2, "train exited with code 2", "bad_input")
    result = staged.run("tiny/checkpoint", window=WINDOWS[1])
    assert not result.success
    assert len(staged.trainer.commands("train")) == 1
    assert "pretending to train" in failure(result)


def test_val_and_test_are_staged_apart(graph: Any) -> None:
    assert graph.run(*PREPARED).success
    record = graph.record("eval_shards", EvalShards)
    assert record.val.samples == record.test.samples == 8
    assert not {shard.key for shard in record.val.shards} & {shard.key for shard in record.test.shards}
