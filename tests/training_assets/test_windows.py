"""Windows: late data reaches just the training sets that contain it, and one with too little is passed over."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from trainer.contract.files import sha256_of
from trainer.contract.pinned import NO_ROWS, window_manifest
from trainer.contract.shard_index import read_index
from training_assets.metadata import SKIPPED
from training_assets.records import DatasetVersion, ShardList, TrainingSet
from training_assets.refresh import Refresher

STAGED = dg.AssetKey("staged_shards")
SETS = dg.AssetKey(["tiny", "training_set"])
EMPTY, FIRST, SECOND = "2025-12-29", "2026-01-05", "2026-01-12"
SPAN = ("2025-12-29", "2026-01-26")
WINDOWS = ("2025-12-29", "2026-01-05", "2026-01-12", "2026-01-19", "2026-01-26")


@pytest.fixture
def graph(graph_without_dvc: Any) -> Any:
    """Two windows with 24 rows and a bit, and empty ones around them."""
    return graph_without_dvc


def made(graph: Any, *windows: str) -> Any:
    """The dataset pinned, and with ``windows`` all of them staged and these training sets made."""
    assert graph.run("dataset_version", "eval_shards").success
    if windows:
        assert graph.run("staged_shards", windows=SPAN).success
    for window in windows:
        assert graph.run("tiny/training_set", window=window).success
    return graph


def stale(graph: Any, key: dg.AssetKey) -> list[str]:
    refresher = Refresher(graph.defs, graph.instance)
    return [window for window in WINDOWS if refresher.out_of_date([key], window)]


def deliver_late(graph: Any, day: str) -> None:
    """One more row of train, captured on ``day``: an image that is there under another name."""

    def with_another(text: str) -> str:
        row = json.loads(text.splitlines()[0])
        source = graph.delivery / row["source-ref"]
        late = source.with_name("late.png")
        shutil.copy(source, late)
        row |= {"sample_id": f"late-{day}", "source-ref": "images/late.png", "captured_at": f"{day}T08:00:00Z"}
        return text + json.dumps(row) + "\n"

    graph.edit("golden_train.manifest", with_another)


def observations(graph: Any, key: dg.AssetKey) -> dict[str, dg.AssetObservation]:
    records = graph.instance.fetch_observations(key, limit=100).records
    return {one.asset_observation.partition: one.asset_observation for one in reversed(records)}


@pytest.mark.slow
def test_a_version_keeps_its_rows_by_window_and_dagster_is_told_of_each_that_changed(graph: Any) -> None:
    windows = dg.AssetKey(["golden", "windows"])
    assert graph.run("dataset_version").success
    first = graph.record("dataset_version", DatasetVersion)
    directory = graph.places.absolute(first.directory)
    assert {name: one.data_version for name, one in observations(graph, windows).items()} == {
        name: sha256_of(window_manifest(directory, name)) for name in (FIRST, SECOND)
    }
    assert graph.run("dataset_version").success
    assert len(graph.instance.fetch_observations(windows, limit=100).records) == 2
    deliver_late(graph, "2026-01-27")
    assert graph.run("dataset_version").success
    assert len(graph.instance.fetch_observations(windows, limit=100).records) == 3
    assert observations(graph, windows)["2026-01-26"].metadata["rows"].value == 1
    shutil.copytree(first.delivery, graph.inbox / "again")
    graph.edit("golden_train.manifest", lambda text: "".join(text.splitlines(keepends=True)[:-1]))
    assert graph.run("dataset_version").success
    assert observations(graph, windows)["2026-01-26"].data_version == NO_ROWS


@pytest.mark.slow
def test_late_data_for_a_window_makes_just_the_training_sets_stale_that_contain_it(graph: Any) -> None:
    """The recipe looks back on two windows."""
    made(graph, *WINDOWS)
    assert stale(graph, STAGED) == []
    assert stale(graph, SETS) == [EMPTY, "2026-01-26"]  # never made: without rows
    deliver_late(graph, "2026-01-06")
    assert graph.run("dataset_version").success
    assert stale(graph, STAGED) == [FIRST]
    assert graph.run("staged_shards", windows=SPAN).success
    assert stale(graph, STAGED) == []
    assert stale(graph, SETS) == [EMPTY, FIRST, SECOND, "2026-01-26"]
    assert graph.run("tiny/training_set", window=FIRST).success
    assert stale(graph, SETS) == [EMPTY, SECOND, "2026-01-26"]


@pytest.mark.slow
def test_a_delivery_with_the_same_windows_leaves_all_of_them_up_to_date(graph: Any) -> None:
    made(graph, FIRST, SECOND)
    rows = (graph.delivery / "golden_train.manifest").read_text().splitlines(keepends=True)
    graph.edit("golden_train.manifest", lambda text: "".join(reversed(rows)))
    assert graph.run("dataset_version").success
    assert stale(graph, STAGED) == []
    assert not {FIRST, SECOND} & set(stale(graph, SETS))


def test_a_window_staged_alone_and_in_a_range_tells_dagster_the_same(graph: Any) -> None:
    assert graph.run("dataset_version").success
    assert graph.run("staged_shards", window=FIRST).success
    alone = latest_tags(graph, FIRST)
    assert graph.run("staged_shards", windows=SPAN).success
    together = latest_tags(graph, FIRST)
    changing = [name for name in alone if name.startswith("dagster/input_data_version")]  # of all partitions at once
    assert {name: tag for name, tag in alone.items() if name not in changing} == {
        name: tag for name, tag in together.items() if name not in changing
    }
    assert set(alone) == set(together)


def latest_tags(graph: Any, window: str) -> dict[str, str]:
    records = graph.instance.fetch_materializations(dg.AssetRecordsFilter(STAGED, asset_partitions=[window]), limit=1)
    return dict(records.records[0].asset_materialization.tags)


def test_a_window_with_too_few_samples_is_passed_over_with_the_reason_and_nothing_fails(
    graph: Any, trainer: Any
) -> None:
    assert graph.run("dataset_version", "eval_shards").success
    assert graph.run("staged_shards", windows=SPAN).success
    result = graph.run("tiny/training_set", "tiny/checkpoint", window="2026-01-26")
    assert result.success
    assert not result.get_asset_materialization_events()
    assert trainer.commands("train") == []
    said = str(observations(graph, SETS)["2026-01-26"].metadata[SKIPPED].value)
    assert "found 0 samples from 0 of 2 windows; without rows: 2026-01-19, 2026-01-26" in said
    assert "expected at least 4 samples (window.min_samples)" in said
    assert graph.record("staged_shards", ShardList, "2026-01-26").samples == 0


def test_a_window_that_nobody_staged_is_staged_for_its_training_set(graph: Any) -> None:
    made(graph)
    assert graph.run("tiny/training_set", window=SECOND).success
    assert graph.record("tiny/training_set", TrainingSet, SECOND).windows_found == (FIRST, SECOND)


def test_staging_goes_by_the_pinned_rows_whatever_the_delivery_is_now(graph: Any) -> None:
    assert graph.run("dataset_version").success
    before = sorted(trained(graph, FIRST))
    shutil.rmtree(graph.delivery)
    assert sorted(trained(graph, FIRST)) == before


def trained(graph: Any, window: str) -> Iterator[str]:
    shutil.rmtree(graph.places.shards, ignore_errors=True)
    assert graph.run("staged_shards", window=window).success
    for shard in graph.record("staged_shards", ShardList, window).shards:
        yield from (one.row.sample_id for one in read_index(graph.places.shards / f"{shard.key}.json").samples)


@pytest.mark.slow
def test_an_older_version_is_trained_on_as_it_was_pinned(graph: Any) -> None:
    made(graph, SECOND)
    old = graph.record("tiny/training_set", TrainingSet, SECOND)
    deliver_late(graph, "2026-01-06")
    assert graph.run("dataset_version", "eval_shards").success
    assert graph.run("tiny/training_set", window=SECOND).success
    new = graph.record("tiny/training_set", TrainingSet, SECOND)
    assert new.samples == old.samples + 1, "the newest rows, though nobody staged them"
    assert graph.run(
        "tiny/training_set", window=SECOND, config={"tiny/training_set": {"dataset": old.dataset.version[:12]}}
    ).success
    again = graph.record("tiny/training_set", TrainingSet, SECOND)
    assert (again.digest, again.dataset.version) == (old.digest, old.dataset.version)
    assert new.dataset.version != old.dataset.version


@pytest.mark.slow
def test_an_older_version_with_samples_that_are_judged_on_by_now_is_refused(graph: Any, failure: Any) -> None:
    made(graph)
    old = graph.record("dataset_version", DatasetVersion).version
    moved = (graph.delivery / "golden_train.manifest").read_text().splitlines(keepends=True)
    graph.edit("golden_train.manifest", lambda text: "".join(moved[1:]))
    graph.edit("golden_test.manifest", lambda text: text + moved[0])
    assert graph.run("dataset_version", "eval_shards").success
    result = graph.run("tiny/training_set", window=SECOND, config={"tiny/training_set": {"dataset": old}})
    assert "found 1 of its samples in today's test split, as train000" in failure(result)


@pytest.mark.slow
def test_a_slice_that_may_be_trained_on_is_in_the_training_set_and_one_that_must_and_cannot_fails_it(
    graph: Any, failure: Any
) -> None:
    made(graph)
    mine(graph, "fog")
    mine(graph, "in_train_already", sample_id="train001")
    mine(graph, "late", captured_at="2026-02-01T00:00:00Z")
    mine(graph, "in_test", sample_id="test000")

    def train_with(*slices: str) -> dg.ExecuteInProcessResult:
        config = {"tiny/training_set": {"slices": list(slices)}}
        return graph.run("tiny/training_set", window=SECOND, config=config)

    assert train_with("fog", "in_train_already").success
    assert graph.record("tiny/training_set", TrainingSet, SECOND).slices == ("fog",)
    assert "in_train_already: all of its samples are in train already" in str(
        graph.metadata("tiny/training_set", SECOND)["slices_left_out"]
    )
    said = failure(train_with("late", "in_test", "unknown"))
    for reason in (
        "late: captured until 2026-02-01, after the window ended (2026-01-19)",
        "in_test: 1 of its samples are in train, val or test, as test000",
        "unknown: it is not staged",
    ):
        assert reason in said


def mine(graph: Any, name: str, **change: str) -> None:
    """A mined slice of one row, staged."""
    row = json.loads((graph.delivery / "golden_train.manifest").read_text().splitlines()[0])
    for field in ("source-ref", "semantic-ref"):
        target = graph.inbox / "slices" / row[field]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(graph.delivery / row[field], target)
    row |= {"sample_id": f"{name}-1", **change}
    (graph.inbox / "slices" / f"{name}.manifest").write_text(json.dumps(row) + "\n")
    graph.instance.add_dynamic_partitions("slices", [name])
    assert graph.run("mined_slice", window=name).success


def test_windows_of_another_length_than_the_rows_were_split_into_are_refused(graph: Any, failure: Any) -> None:
    made(graph)
    windows = graph.profile.windows.model_copy(update={"cadence": "daily"})
    profile = graph.profile.model_copy(update={"windows": windows})
    daily = type(graph)(profile, graph.instance, launcher=graph.defs.resources["launcher"])
    for asset in ("staged_shards", "tiny/training_set"):
        said = failure(daily.run(asset, window="2026-01-06"))
        assert "is split into weekly windows, found other ones in the profile" in said
