"""Fills Dagster's storage as years of work would: what ``ui.py`` looks at. Run by it, in a process of its own."""

import base64
import sys
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import dagster as dg
from ui_location import defs

from training_assets import metadata, partitions
from training_assets.metadata import drawing

SLICES, TRIALS, RUNS = 1000, 300, 300
PICTURE = drawing("loss curve", f"<svg>{base64.b64encode(bytes(6000)).decode()}</svg>")
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
        events = list(events_of(graph, instance, recipes))
        for event in events:
            instance.report_runless_asset_event(event)
    print(len(events))


def run_of(recipe: str) -> dg.DagsterRun:
    status = dg.DagsterRunStatus.SUCCESS
    return dg.DagsterRun(job_name=f"{recipe}_job", run_id=str(uuid4()), status=status)


def events_of(
    graph: Any, instance: dg.DagsterInstance, recipes: list[str]
) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    """Every partition of every asset was made; every check of a window's assets was judged."""
    for key in sorted(graph.materializable_asset_keys):
        definition = graph.get(key).partitions_def
        names = [None] if definition is None else definition.get_partition_keys(dynamic_partitions_store=instance)
        for place, name in enumerate(names):
            yield dg.AssetMaterialization(key, metadata=metadata_of(key, place), partition=name)
    for check in graph.asset_check_keys:
        yield dg.AssetCheckEvaluation(check.asset_key, check.name, passed=True, metadata={"comparisons": 12})


def metadata_of(key: dg.AssetKey, place: int) -> dict[str, object]:
    value = 0.5 + place / 5000
    known: dict[str, object] = {"samples": place, "val/mIoU": value, "cost_usd": 1 + value, "gpu_hours": value}
    if key.path[-1] in ("checkpoint", "eval_report", "trial"):
        rows = [(f"slice {number}", 100, value, value) for number in range(12)]
        known |= {"curve": PICTURE, "slices": metadata.table(("slice", "samples", "mIoU", "AP50"), rows)}
    return known


if __name__ == "__main__":
    sys.exit(main())
