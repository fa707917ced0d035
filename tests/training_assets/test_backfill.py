"""A backfill over windows, launched as the web page launches it, with Dagster's real processes."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from tests.training_assets.daemons import Daemon, WebServer, prepare_home, pretending_workspace, until
from trainer.contract.shard_index import read_index
from training_assets.jobs import CHAIN
from training_assets.metadata import SKIPPED
from training_assets.records import ShardList, TrainingSet
from training_assets.stores.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EMPTY, FIRST, SECOND, LAST = "2025-12-29", "2026-01-05", "2026-01-12", "2026-01-19"
WINDOWS = (EMPTY, FIRST, SECOND)
SETS = (*WINDOWS, LAST)
"""Dagster adds the training sets that the last of the windows is in, too."""
LAUNCH = """
mutation {
  launchPartitionBackfill(backfillParams: {assetSelection: [%s], partitionNames: [%s]}) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


@pytest.fixture
def place(graph_without_dvc: Any, profile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The dataset is pinned and val and test are staged, nothing else."""
    prepare_home(tmp_path / "home", max_concurrent_runs=2)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    for name in ("store", "inbox", "recipes"):
        monkeypatch.setenv(f"TRAINING_ASSETS_{name.upper()}", str(getattr(profile, name)))
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        resources = graph_without_dvc.defs.resources
        place = type(graph_without_dvc)(profile, instance, launcher=resources["launcher"], dvc=resources["dvc"])
        assert place.run("dataset_version", "eval_shards").success
        yield place


def launch(web: WebServer) -> str:
    """Everything of a recipe from its shards on, for all windows; the backfill's id."""
    until(lambda: web.ask("{ version }"), 120)
    keys = [["staged_shards"], *(["tiny", name] for name in CHAIN)]
    selection = ", ".join(f"{{path: {json.dumps(key)}}}" for key in keys)
    answer = web.ask(LAUNCH % (selection, ", ".join(map(json.dumps, WINDOWS))))["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return str(answer["backfillId"])


def ended(place: Any, backfill: str) -> PartitionBackfill | None:
    found = place.instance.get_backfill(backfill)
    return None if found.status == BulkActionStatus.REQUESTED else found


def test_a_backfill_ends_stages_each_frame_once_and_passes_an_empty_window_over_with_the_reason(
    place: Any, tmp_path: Path
) -> None:
    workspace = pretending_workspace(tmp_path / "workspace.yaml")
    web, daemon = WebServer(workspace), Daemon(workspace, backfill_seconds=2)
    try:
        backfill = launch(web)
        done = until(lambda: ended(place, backfill), 400)
    finally:
        daemon.close()
        web.close()
    # Dagster knows no partition that is passed over: it counts one as failed, though its run succeeded.
    assert done.status == BulkActionStatus.COMPLETED_FAILED
    runs = [run for run in place.instance.get_runs() if run.tags.get("dagster/backfill") == backfill]
    assert Counter(run.status.value for run in runs) == {"SUCCESS": 1 + len(SETS)}, "all windows are staged by one"
    assert {run.tags["dagster/priority"] for run in runs} == {"0"}
    lists = {window: place.record("staged_shards", ShardList, window) for window in WINDOWS}
    indexes = [read_index(place.places.shards / f"{s.key}.json") for one in lists.values() for s in one.shards]
    staged = Counter(sample.row.sample_id for index in indexes for sample in index.samples)
    assert set(staged.values()) == {1}
    assert len(staged) == 48
    tars = sum(path.stat().st_size for path in place.places.shards.glob("*.tar"))
    judged = sum(place.metadata("eval_shards")[f"{split}/bytes_staged"] for split in ("val", "test"))
    assert sum(one.bytes_staged for one in lists.values()) == tars - judged
    made = {window: place.record("tiny/training_set", TrainingSet, window) for window in SETS[1:]}
    assert {window: one.windows_found for window, one in made.items()} == {
        FIRST: (FIRST,), SECOND: (FIRST, SECOND), LAST: (SECOND,)
    }  # fmt: skip
    assert len(Registry(place.profile.store).versions("tests")) == len(made)
    (observed,) = place.instance.fetch_observations(dg.AssetKey(["tiny", "training_set"]), limit=10).records
    assert observed.asset_observation.partition == EMPTY
    assert "found 0 samples from 0 of 2 windows" in observed.asset_observation.metadata[SKIPPED].value
