"""Rows staged as shards on fast storage. Which of them a recipe trains on is decided in ``training.py``."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster._core.execution.plan.execute_step import (
    _build_data_version_tags,
    _get_code_version,
    _get_input_provenance_data,
)

from training_assets import metadata, partitions
from training_assets.assets.dataset import GOLDEN_WINDOWS
from training_assets.launchers import Launcher
from training_assets.places import Places
from training_assets.records import DatasetVersion, EvalShards, ShardList
from training_assets.staging import Stager
from training_assets.stores.dvc import DvcStore
from training_assets.stores.fast_storage import FastStorage
from training_assets.stores.record_store import RecordStore
from training_assets.versions import CONTRACT, code_version

SOURCES = (CONTRACT, "trainer/data/shards.py", "training_assets/staging.py", "training_assets/assets/shards.py")


def shard_assets(windows: dg.TimeWindowPartitionsDefinition) -> list[dg.AssetsDefinition]:
    return [_staged_shards(windows), eval_shards]


def _staged_shards(windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        partitions_def=windows,
        deps=[GOLDEN_WINDOWS],
        backfill_policy=dg.BackfillPolicy.single_run(),
        output_required=False,
        code_version=code_version(*SOURCES),
    )
    def staged_shards(
        context: dg.AssetExecutionContext,
        places: dg.ResourceParam[Places],
        launcher: dg.ResourceParam[Launcher],
        dvc: dg.ResourceParam[DvcStore],
        storage: dg.ResourceParam[FastStorage],
    ) -> Iterator[dg.AssetMaterialization | dg.MaterializeResult[ShardList]]:
        """The window's rows of the train split as WebDataset shards, each frame staged once.

        Shards are content-addressed: windows that share rows with what is there write nothing. A range of windows is
        staged by one launch, and each window has a data version of its own.
        """
        dataset = RecordStore(places).dataset()
        partitions.refuse_other_windows(windows, dataset)
        lists = Stager(context, launcher, places, dvc, storage).windows(dataset, context.partition_keys)
        if len(lists) > 1:
            yield from materialised(context, places, lists)
            return
        (staged,) = lists.values()
        yield dg.MaterializeResult(
            value=staged, data_version=dg.DataVersion(staged.digest), metadata=shard_metadata(staged)
        )

    return staged_shards


def materialised(
    context: dg.AssetExecutionContext, places: Places, lists: Mapping[str, ShardList]
) -> Iterator[dg.AssetMaterialization]:
    """Keep the record of each window of a range, and tell Dagster of it as it tells of a single window itself.

    Dagster's own result of a range has one data version for all of it: late data for one window would then make every
    training set out of date that uses any other.
    """
    step, key = context.get_step_execution_context(), context.asset_key
    code, inputs = _get_code_version(key, step), _get_input_provenance_data(key, step)
    for window, staged in lists.items():
        RecordStore(places).write(key, window, staged)
        version = dg.DataVersion(staged.digest)
        yield dg.AssetMaterialization(
            key,
            partition=window,
            metadata=shard_metadata(staged),
            tags=_build_data_version_tags(version, code, inputs, data_version_is_user_provided=True),
        )


@dg.asset(code_version=code_version(*SOURCES))
def eval_shards(
    context: dg.AssetExecutionContext,
    dataset_version: DatasetVersion,
    places: dg.ResourceParam[Places],
    launcher: dg.ResourceParam[Launcher],
    dvc: dg.ResourceParam[DvcStore],
    storage: dg.ResourceParam[FastStorage],
) -> dg.MaterializeResult[EvalShards]:
    """The val and the test split as shards."""
    splits = Stager(context, launcher, places, dvc, storage).splits(dataset_version, "val", "test")
    record = EvalShards(val=splits["val"], test=splits["test"])
    found = {f"{split}/{name}": value for split, part in splits.items() for name, value in shard_metadata(part).items()}
    return dg.MaterializeResult(value=record, data_version=dg.DataVersion(record.digest), metadata=found)


def shard_metadata(staged: ShardList) -> dict[str, Any]:
    return {
        "samples": staged.samples,
        "shards": len(staged.shards),
        "bytes_staged": staged.bytes_staged,
        "bytes_reused": staged.bytes_reused,
        "labels": metadata.counts(staged.label_counts, "label"),
        "content": metadata.table(
            ("shard", "samples", "bytes", "sha256"), [(s.key, s.samples, s.bytes, s.sha256[:12]) for s in staged.shards]
        ),
    }
