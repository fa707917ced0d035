"""Fills Dagster's storage as years of work would: what ``ui.py`` looks at. Run by it, in a process of its own."""

import base64
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool
from ui_location import defs

from training_assets import metadata, partitions
from training_assets.metadata import drawing

SLICES, TRIALS, RUNS = 1000, 300, 300
PICTURE = drawing("loss curve", f"<svg>{base64.b64encode(bytes(6000)).decode()}</svg>")
CHECKED = "scenes_multitask"
"""The recipe whose checks were judged for every partition."""
TUNE = "brisk-harbour-417"


def main() -> None:
    graph = defs.resolve_asset_graph()
    with dg.DagsterInstance.get() as instance:
        recipes = sorted({key.path[0] for key in graph.get_all_asset_keys() if key.path[-1] == "trial"})
        slices = [f"fog-{number:04}" for number in range(SLICES)]
        trials = [f"{TUNE}-cv{number}" for number in range(TRIALS)]
        instance.add_dynamic_partitions(str(partitions.slices.name), slices)
        for recipe in recipes:
            instance.add_dynamic_partitions(str(partitions.trials(recipe).name), trials)
            instance.add_dynamic_partitions(str(partitions.sweeps(recipe).name), [TUNE])
        for number in range(RUNS):
            instance.add_run(run_of(recipes[number % len(recipes)]))
        with one_transaction(instance.event_log_storage):
            print(sum(told(graph.get(key), instance) for key in sorted(graph.materializable_asset_keys)))


@contextmanager
def one_transaction(storage: Any) -> Iterator[None]:
    """All that is told within, in one transaction of each SQLite file: Dagster's own are one an event."""
    with ExitStack() as whole:
        begun: dict[str, Any] = {}

        @contextmanager
        def connect(shard: str) -> Iterator[Any]:
            if shard not in begun:
                with made(shard):  # makes its tables
                    pass
                engine = create_engine(storage.conn_string_for_shard(shard), poolclass=NullPool)
                begun[shard] = whole.enter_context(engine.begin())
            yield begun[shard]

        made, storage._connect = storage._connect, connect
        try:
            yield
        finally:
            storage._connect = made


def run_of(recipe: str) -> dg.DagsterRun:
    status = dg.DagsterRunStatus.SUCCESS
    return dg.DagsterRun(job_name=f"{recipe}_job", run_id=str(uuid4()), status=status)


def told(node: Any, instance: dg.DagsterInstance) -> int:
    """Every partition of an asset was made, and judged where it is ``CHECKED`` or of no recipe; how many events."""
    definition, count = node.partitions_def, 0
    checks = sorted(node.check_keys) if node.key.path[0] == CHECKED or len(node.key.path) == 1 else []
    names = [None] if definition is None else definition.get_partition_keys(dynamic_partitions_store=instance)
    for place, name in enumerate(names):
        made = dg.AssetMaterialization(node.key, metadata=metadata_of(node.key, place), partition=name)
        instance.report_runless_asset_event(made)
        for judged in evaluations(node.key, checks, name, instance):
            instance.report_runless_asset_event(judged)
        count += 1 + len(checks)
    return count


def evaluations(
    key: dg.AssetKey, checks: list[dg.AssetCheckKey], partition: str | None, instance: dg.DagsterInstance
) -> list[dg.AssetCheckEvaluation]:
    """Of what was made last: the page asks whether a check is of the newest."""
    if not checks:
        return []
    last = instance.fetch_materializations(key, limit=1).records[0]
    target = AssetCheckEvaluationTargetMaterializationData(
        storage_id=last.storage_id, run_id=last.run_id, timestamp=last.timestamp
    )
    return [
        dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=check.name,
            passed=True,
            metadata={"comparisons": 12},
            partition=partition,
            target_materialization_data=target,
        )
        for check in checks
    ]


def metadata_of(key: dg.AssetKey, place: int) -> dict[str, object]:
    value = 0.5 + place / 5000
    known: dict[str, object] = {"samples": place, "val/mIoU": value, "cost_usd": 1 + value, "gpu_hours": value}
    if key.path[-1] in ("checkpoint", "eval_report", "trial"):
        rows = [(f"slice {number}", 100, value, value) for number in range(12)]
        known |= {"curve": PICTURE, "slices": metadata.table(("slice", "samples", "mIoU", "AP50"), rows)}
    return known


if __name__ == "__main__":
    sys.exit(main())
