"""What Dagster plots over windows: plain keys, with the values of the records that they come from."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.training_assets.conftest import WITH_ROWS, Graph, Snapshot, key_of
from training_assets.jobs import CHAIN
from training_assets.launchers.base import Estimate
from training_assets.records import Checkpoint, Evaluation, ExportedModel, Registered
from training_assets.stores.registry import Registry

IOU = "segmentation/mIoU"
WINDOW = WITH_ROWS[1]


@pytest.fixture(scope="module")
def priced(staged_once: Snapshot) -> Iterator[Graph]:
    """A chain with a production model to compare with, on a machine that has GPUs and a price. Only to be looked at."""
    staged = staged_once.restored()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(staged.trainer), "estimate", lambda self, spec: Estimate("g5", 1, 4, 36.0))
        patch.setattr(type(staged.trainer), "seconds_billed", lambda self, handle: 600.0)
        yield with_two_models(staged)


def with_two_models(staged: Graph) -> Graph:
    staged.trainer.metrics = {IOU: 0.7, "detection/AP50": 0.6, "detection/AP": 0.4}
    chain = [f"tiny/{name}" for name in CHAIN]
    assert staged.run(*chain, window=WITH_ROWS[0]).success
    Registry(staged.profile.store).promote("tests", "1.0.0", by="ann")
    staged.trainer.metrics = {**staged.trainer.metrics, IOU: 0.75}
    assert staged.run(*chain, window=WINDOW).success
    return staged


def plotted(graph: Graph, asset: str) -> dict[str, float]:
    """What Dagster draws a plot of: numbers, and nothing else."""
    records = graph.instance.fetch_materializations(
        dg.AssetRecordsFilter(key_of(f"tiny/{asset}"), asset_partitions=[WINDOW]), limit=1
    ).records
    found = records[0].asset_materialization.metadata
    numbers = (dg.FloatMetadataValue, dg.IntMetadataValue)
    return {name: one.value for name, one in found.items() if isinstance(one, numbers)}


def test_scores_latency_and_cost_of_a_window_are_plotted_by_plain_keys(priced: Graph) -> None:
    evaluation = priced.record("tiny/eval_report", Evaluation, WINDOW)
    scores = evaluation.report.splits["test"].metrics
    exports = priced.record("tiny/exported_model", ExportedModel, WINDOW).exports
    (onnx,) = (one for one in exports.files if one.format == "onnx")
    (outcome,) = (priced.places.absolute(_run(priced)) / "attempts").glob("*/outcome.json")
    spent = json.loads(outcome.read_bytes())["spent"]
    assert (spent["gpu_hours"], spent["usd"]) == pytest.approx((4 * 600 / 3600, 6.0))

    shown = plotted(priced, "eval_report")
    assert {name: shown[name] for name in ("mAP", "AP50", "mIoU")} == {
        "mAP": scores["detection/AP"], "AP50": scores["detection/AP50"], "mIoU": scores[IOU]
    }  # fmt: skip
    assert shown["p95_latency_ms"] == onnx.latency.p95_ms
    assert (shown["gpu_hours"], shown["cost_usd"]) == (round(spent["gpu_hours"], 3), round(spent["usd"], 2))
    assert shown["mIoU_to_production"] == pytest.approx(0.75 - 0.7)

    trained = plotted(priced, "checkpoint")
    assert (trained["gpu_hours"], trained["cost_usd"]) == (shown["gpu_hours"], shown["cost_usd"])
    result = priced.record("tiny/checkpoint", Checkpoint, WINDOW).result
    assert trained["samples_per_second"] == result.samples_per_second
    assert plotted(priced, "exported_model")["p95_latency_ms"] == onnx.latency.p95_ms
    assert plotted(priced, "registry_entry")["mIoU"] == scores[IOU]


def test_a_version_shows_what_it_was_made_from_with_links_to_it(priced: Graph) -> None:
    registered = priced.record("tiny/registry_entry", Registered, WINDOW)
    lineage = Registry(priced.profile.store).find(f"tests@{registered.version}").lineage
    shown: dict[str, Any] = priced.metadata("tiny/registry_entry", WINDOW)
    table = shown["lineage"]
    assert f"| dataset version | {lineage.dataset.version[:12]}, DVC {lineage.dataset.dvc_hash} |" in table
    for window in lineage.training_set.windows:
        assert f"[{window}](/assets/staged_shards?view=partitions&partition={window})" in table
    assert f"[tiny/training_set](/assets/tiny/training_set?view=partitions&partition={WINDOW})" in table
    assert f"[run](/runs/{lineage.run.dagster_run_id})" in table
    assert shown["dagster_run"] == lineage.run.dagster_run_id
    assert shown["trained_on"] == key_of("tiny/training_set")


def _run(graph: Graph) -> str:
    return Path(graph.record("tiny/checkpoint", Checkpoint, WINDOW).directory).as_posix()
