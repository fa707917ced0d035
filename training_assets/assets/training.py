"""What a recipe trains on: the shards of its windows and of mined slices. The training itself is ``checkpoint.py``."""

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

import dagster as dg

from trainer.contract.files import digest_of, write_text
from trainer.contract.shard_index import DATA_FILE, DataSpec, read_index
from trainer.contract.slices import read_slices
from trainer.contract.train_config import TrainConfig
from training_assets import metadata, partitions
from training_assets.assets.checkpoint import checkpoint_asset
from training_assets.places import Places
from training_assets.records import DatasetVersion, EvalShards, ShardList, TrainingSet
from training_assets.versions import code_version

HERE = "training_assets/assets/training.py"


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
        code_version=f"{digest_of(recipe.window.model_dump(mode='json'))[:12]}-{code_version(HERE)}",
        description=f"The shards of the last {recipe.window.count} windows and of mined slices, and their digest.",
    )
    def training_set(
        context: dg.AssetExecutionContext,
        staged: dict[str, ShardList],
        mined: dict[str, ShardList],
        eval_shards: EvalShards,
        dataset_version: DatasetVersion,
        places: dg.ResourceParam[Places],
    ) -> dg.MaterializeResult[TrainingSet]:
        window = context.partition_key
        asked = partitions.rolling_names(windows, window, recipe.window.count)
        found = {name: staged[name] for name in asked if name in staged and staged[name].samples}
        end = windows.time_window_for_partition_key(window).end
        slices = usable_slices(mined, found.values(), eval_shards, places, end)
        train = [*found.values(), *slices.values()]
        refuse_misfit(recipe, train, eval_shards, places.absolute(dataset_version.directory), asked, list(found))
        spec = DataSpec(splits={"train": _paths(train), "val": _paths([eval_shards.val])})
        directory = places.training_set(recipe.name, window, spec.digest)
        record = TrainingSet(
            recipe=recipe.name,
            window=window,
            directory=places.relative(directory),
            digest=spec.digest,
            windows_found=tuple(found),
            windows_missing=tuple(name for name in asked if name not in found),
            slices=tuple(slices),
            samples=sum(part.samples for part in train),
            dataset=dataset_version,
        )
        write_data_directory(spec, places, directory, dataset_version)
        context.log.info(
            f"{record.samples} samples from {len(found)} of {len(asked)} windows"
            + (f"; without rows: {', '.join(record.windows_missing)}" if record.windows_missing else "")
        )
        return dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(spec.digest),
            metadata={
                "samples": record.samples,
                "windows_asked": len(asked),
                "windows_found": len(found),
                "windows_missing": ", ".join(record.windows_missing) or "none",
                "mined_slices": ", ".join(slices) or "none",
                "windows": metadata.table(
                    ("window", "samples"), [(name, found[name].samples if name in found else None) for name in asked]
                ),
                "directory": dg.MetadataValue.path(str(directory)),
            },
        )

    return training_set


def write_data_directory(spec: DataSpec, places: Places, directory: Path, dataset: DatasetVersion) -> None:
    """A directory that the trainer takes as ``--data``: ``data.json`` and the pinned ``slices.yaml``.

    ``spec`` names indexes by their path in the shard directory; in the file they are relative to it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(places.absolute(dataset.directory) / "slices.yaml", directory / "slices.yaml")
    to_shards = Path(os.path.relpath(places.shards, directory))
    splits = {split: tuple((to_shards / name).as_posix() for name in names) for split, names in spec.splits.items()}
    write_text(directory / DATA_FILE, spec.model_copy(update={"splits": splits}).model_dump_json(indent=2) + "\n")


def refuse_misfit(
    recipe: TrainConfig,
    train: list[ShardList],
    eval_shards: EvalShards,
    dataset: Path,
    asked: list[str],
    found: list[str],
) -> None:
    """
    Raises:
        dg.Failure: the recipe cannot learn from this data, or there is too little of it.
    """
    samples = sum(part.samples for part in train)
    if samples < recipe.window.min_samples:
        raise dg.Failure(
            f"{recipe.name}: found {samples} samples in {len(found)} of the {len(asked)} windows to {asked[-1]},"
            f" expected at least {recipe.window.min_samples} (window.min_samples). Materialise staged_shards for the"
            " windows that have rows, choose a later window, or lower window.min_samples in the recipe.",
            allow_retries=False,
        )
    labels: Counter[str] = Counter()
    for part in [*train, eval_shards.val]:
        labels.update(part.label_counts)
    if reasons := recipe.misfits(read_slices(dataset / "slices.yaml"), labels):
        raise dg.Failure(f"{recipe.name} does not fit this data: {'; '.join(reasons)}", allow_retries=False)


def usable_slices(
    mined: Mapping[str, ShardList],
    train: Iterable[ShardList],
    eval_shards: EvalShards,
    places: Places,
    end: datetime,
) -> dict[str, ShardList]:
    """The mined slices that may be trained on: captured before the window's end, nothing of it in val, test or train.

    An older window so keeps its training set when a slice is mined later.
    """
    taken = {sample for part in [*train, eval_shards.val, eval_shards.test] for sample, _ in _samples(part, places)}
    usable = {}
    for name, part in sorted(mined.items()):
        samples = _samples(part, places)
        if samples and all(moment < end for _, moment in samples) and not taken & {sample for sample, _ in samples}:
            usable[name] = part
            taken |= {sample for sample, _ in samples}
    return usable


def _samples(part: ShardList, places: Places) -> list[tuple[str, datetime]]:
    indexes = (read_index(places.shards / f"{shard.key}.json") for shard in part.shards)
    return [(sample.row.sample_id, sample.row.captured_at) for index in indexes for sample in index.samples]


def _paths(parts: Iterable[ShardList]) -> tuple[str, ...]:
    return tuple(f"{shard.key}.json" for part in parts for shard in part.shards)
