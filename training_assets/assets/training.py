"""What a recipe trains on. How it is put together is ``selection.py``, the training itself ``checkpoint.py``."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import dagster as dg
from pydantic import Field

from trainer.contract.files import digest_of, write_text
from trainer.contract.shard_index import DATA_FILE, DataSpec
from trainer.contract.train_config import TrainConfig
from training_assets import metadata, partitions
from training_assets.assets.checkpoint import checkpoint_asset
from training_assets.assets.dataset import pinned_dataset
from training_assets.launchers import Launcher
from training_assets.places import Places
from training_assets.records import EvalShards, ShardList, TrainingSet
from training_assets.selection import Selection, refuse_lacking, refuse_misfit, select
from training_assets.staging import Stager
from training_assets.stores.dvc import DvcStore
from training_assets.stores.fast_storage import FastStorage
from training_assets.stores.record_store import RecordStore
from training_assets.versions import code_version

SOURCES = ("training_assets/selection.py", "training_assets/assets/training.py")


class TrainingSetConfig(dg.Config):
    """Other data than the newest."""

    dataset: str = Field(
        default="", description="A pinned dataset version (the first characters do); empty: the one pinned last."
    )
    slices: list[str] = Field(
        default=[], description="Mined slices that must be in it: where one cannot be, the training set fails."
    )


def training_chain(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> list[dg.AssetsDefinition]:
    return [_training_set(recipe, windows), checkpoint_asset(recipe, windows)]


def _training_set(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        key=[recipe.name, "training_set"],
        partitions_def=windows,
        ins={
            "staged": dg.AssetIn("staged_shards", partition_mapping=partitions.rolling(recipe.window.count)),
            "mined": dg.AssetIn("mined_slice", partition_mapping=dg.AllPartitionMapping()),
        },
        output_required=False,
        code_version=f"{digest_of(recipe.window.model_dump(mode='json'))[:12]}-{code_version(*SOURCES)}",
        description=f"The shards of the last {recipe.window.count} windows and of mined slices, and their digest."
        f" Skipped with fewer than {recipe.window.min_samples} samples.",
    )
    def training_set(
        context: dg.AssetExecutionContext,
        config: TrainingSetConfig,
        staged: dict[str, ShardList],
        mined: dict[str, ShardList],
        eval_shards: EvalShards,
        places: dg.ResourceParam[Places],
        launcher: dg.ResourceParam[Launcher],
        dvc: dg.ResourceParam[DvcStore],
        storage: dg.ResourceParam[FastStorage],
    ) -> Iterator[dg.AssetObservation | dg.MaterializeResult[TrainingSet]]:
        window = context.partition_key
        # No input of the asset: each delivery would make the training sets of all windows out of date.
        dataset = pinned_dataset(config.dataset, places, dvc) if config.dataset else RecordStore(places).dataset()
        stager = Stager(context, launcher, places, dvc, storage)
        chosen = select(recipe, windows, window, dataset, staged, mined, eval_shards, stager)
        refuse_lacking(config.slices, chosen)
        if reason := chosen.too_few(recipe):
            context.log.warning(reason)
            yield dg.AssetObservation(
                context.asset_key,
                partition=window,
                description=reason,
                metadata={metadata.SKIPPED: reason, **_metadata(chosen)},
            )
            return
        refuse_misfit(recipe, chosen, dataset, places)
        spec = DataSpec(splits={"train": _paths(*chosen.train), "val": _paths(chosen.val)})
        directory = places.training_set(recipe.name, window, spec.digest)
        record = TrainingSet(
            recipe=recipe.name,
            window=window,
            directory=places.relative(directory),
            digest=spec.digest,
            windows_found=tuple(chosen.windows),
            windows_missing=chosen.missing,
            slices=tuple(chosen.slices),
            samples=chosen.samples,
            dataset=dataset,
        )
        write_data_directory(spec, places, directory, dataset)
        context.log.info(chosen.summary)
        found = {**_metadata(chosen), "directory": dg.MetadataValue.path(str(directory))}
        yield dg.MaterializeResult(value=record, data_version=dg.DataVersion(spec.digest), metadata=found)

    return training_set


class Sliced(Protocol):
    """What has a ``slices.yaml`` in its directory below the store: a pinned dataset version, say."""

    @property
    def directory(self) -> str: ...


def write_data_directory(spec: DataSpec, places: Places, directory: Path, dataset: Sliced) -> None:
    """A directory that the trainer takes as ``--data``: ``data.json`` and the ``slices.yaml`` of ``dataset``.

    ``spec`` names indexes by their path in the shard directory; in the file they are relative to it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(places.absolute(dataset.directory) / "slices.yaml", directory / "slices.yaml")
    to_shards = Path(os.path.relpath(places.shards, directory))
    splits = {split: tuple((to_shards / name).as_posix() for name in names) for split, names in spec.splits.items()}
    write_text(directory / DATA_FILE, spec.model_copy(update={"splits": splits}).text)


def _paths(*parts: ShardList) -> tuple[str, ...]:
    return tuple(f"{shard.key}.json" for part in parts for shard in part.shards)


def _metadata(chosen: Selection) -> dict[str, Any]:
    rows = [(name, part.samples if (part := chosen.windows.get(name)) else None) for name in chosen.asked]
    return {
        "samples": chosen.samples,
        "windows_asked": len(chosen.asked),
        "windows_found": len(chosen.windows),
        "windows_missing": ", ".join(chosen.missing) or "none",
        "mined_slices": ", ".join(chosen.slices) or "none",
        "slices_left_out": "; ".join(f"{name}: {why}" for name, why in chosen.left_out.items()) or "none",
        "windows": metadata.table(("window", "samples"), rows),
    }
