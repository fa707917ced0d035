"""Materialising what is out of date, and nothing else, through Dagster.

Whether an asset is out of date is Dagster's own judgement, the one that its web page shows: never materialised, its
code version differs, or an upstream asset has another data version than the one it was made from. An upstream asset
that was materialised again with the same content leaves its downstream assets up to date.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.data_version import DATA_VERSION_TAG, CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContext
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from trainer.contract.train_config import TrainConfig
from training_assets.assets.dataset import GOLDEN_FILES, golden_key
from training_assets.stores.inbox import DeliveryFound


class _Loading(LoadingContext):
    """Dagster's cache of event records for one question."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._loaders: dict[Any, Any] = {}

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._instance

    @property
    def loaders(self) -> dict[Any, Any]:
        return self._loaders


@dataclass(frozen=True)
class OutOfDate:
    """An asset (and partition) to materialise, and why."""

    key: dg.AssetKey
    reason: str


class Refresher:
    """One Dagster instance and one code location."""

    def __init__(self, defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self.defs = defs
        self.instance = instance

    def observe_delivery(self, delivery: DeliveryFound) -> None:
        """Tell Dagster what the delivery's files hold; says nothing where it knows already."""
        for part, file in GOLDEN_FILES.items():
            version = delivery.digests[file]
            key = golden_key(part)
            if self._status().get_current_data_version(key).value != version:
                observation = dg.AssetObservation(key, tags={DATA_VERSION_TAG: version})
                self.instance.report_runless_asset_event(observation)

    def out_of_date(self, keys: Sequence[dg.AssetKey], partition: str | None = None) -> list[OutOfDate]:
        """Those of ``keys`` that are to be materialised, in the given order."""
        return out_of_date(self.defs.resolve_asset_graph(), self.instance, keys, partition)

    def runnable(self, found: Sequence[OutOfDate], keys: Sequence[dg.AssetKey]) -> list[OutOfDate]:
        """Those of ``found`` that one run can do now; ``keys`` are all that is kept up to date, upstream first.

        Held back is what lies behind an asset that is up to date but will not be once this run is over: it would be
        made from the old one.
        """
        graph = self.defs.resolve_asset_graph()
        reasons = {one.key: one for one in found}
        running: list[OutOfDate] = []
        moving: set[dg.AssetKey] = set()
        unsettled: set[dg.AssetKey] = set()
        for key in keys:
            parents = graph.get(key).parent_keys
            if key in reasons and not parents & unsettled:
                running.append(reasons[key])
                moving.add(key)
            elif parents & (moving | unsettled):
                unsettled.add(key)
        return running

    def run(
        self,
        job: str,
        keys: Sequence[dg.AssetKey],
        partitions: Sequence[str] = (),
        run_config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialise ``keys`` in one run of ``job``; several partitions need a single-run backfill policy."""
        ends = (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)
        several = len(partitions) > 1
        span = dict(zip(ends, (partitions[0], partitions[-1]), strict=True)) if several else {}
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            run_config={**(run_config or {}), "loggers": {"console": {}}},
            asset_selection=list(keys),
            partition_key=partitions[0] if len(partitions) == 1 else None,
            tags={**(tags or {}), **span},
            raise_on_error=False,
        )

    def _status(self) -> CachingStaleStatusResolver:
        return _resolver(self.defs.resolve_asset_graph(), self.instance)


def out_of_date(
    graph: AssetGraph, instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey], partition: str | None = None
) -> list[OutOfDate]:
    """Those of ``keys`` that are to be materialised, in the given order."""
    resolver = _resolver(graph, instance)
    found = []
    for key in keys:
        if resolver.get_status(key, partition) != StaleStatus.FRESH:
            causes = ", ".join(cause.reason for cause in resolver.get_stale_causes(key, partition))
            found.append(OutOfDate(key, causes or "never materialised"))
    return found


def _resolver(graph: AssetGraph, instance: dg.DagsterInstance) -> CachingStaleStatusResolver:
    # Made anew for each question: it keeps what it has read.
    return CachingStaleStatusResolver(instance, graph, _Loading(instance))


def stale_parts(graph: AssetGraph, instance: dg.DagsterInstance, recipe: TrainConfig, windows: list[str]) -> list[str]:
    """What of the training for the last of ``windows`` is out of date, and why: shards, training set, checkpoint.

    Not what comes after the checkpoint: other limits or another slices.yaml ask for no new training.
    """
    staged, own = dg.AssetKey("staged_shards"), [dg.AssetKey([recipe.name, x]) for x in ("training_set", "checkpoint")]
    found = [(f"staged_shards {name}", out_of_date(graph, instance, [staged], name)) for name in windows]
    found += [(key.path[-1], out_of_date(graph, instance, [key], windows[-1])) for key in own]
    return [f"{what}: {one.reason}" for what, parts in found for one in parts]
