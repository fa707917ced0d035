"""Which rows a recipe trains on: its windows of one dataset version, and the mined slices that may be trained on."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from trainer.contract.files import sha256_of
from trainer.contract.pinned import split_manifests, window_manifest
from trainer.contract.slices import SLICES_FILE, read_slices
from trainer.contract.train_config import TrainConfig
from training_assets import partitions
from training_assets.places import Places
from training_assets.records import DatasetVersion, EvalShards, ShardList
from training_assets.staging import Stager

COVERED = "all of its samples are in train already"


@dataclass(frozen=True)
class Selection:
    """What a training set is made of.

    ``asked`` are the windows that the recipe looks back on, oldest first, ``windows`` those of them that have rows;
    ``left_out`` says why a mined slice is not among ``slices``.
    """

    asked: Sequence[str]
    windows: Mapping[str, ShardList]
    slices: Mapping[str, ShardList]
    left_out: Mapping[str, str]
    val: ShardList

    @property
    def train(self) -> list[ShardList]:
        return [*self.windows.values(), *self.slices.values()]

    @property
    def samples(self) -> int:
        return sum(part.samples for part in self.train)

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in self.asked if name not in self.windows)

    @property
    def summary(self) -> str:
        without = f"; without rows: {', '.join(self.missing)}" if self.missing else ""
        return f"{self.samples} samples from {len(self.windows)} of {len(self.asked)} windows{without}"

    def too_few(self, recipe: TrainConfig) -> str:
        """Why there is nothing to train for this window; empty when there is enough."""
        if self.samples >= recipe.window.min_samples:
            return ""
        return (
            f"{recipe.name} is not trained for window {self.asked[-1]}: found {self.summary}, expected at least"
            f" {recipe.window.min_samples} samples (window.min_samples). Deliver rows of these windows, or lower"
            " window.min_samples in the recipe."
        )


def select(
    recipe: TrainConfig,
    definition: dg.TimeWindowPartitionsDefinition,
    window: str,
    dataset: DatasetVersion,
    staged: Mapping[str, ShardList],
    mined: Mapping[str, ShardList],
    eval_shards: EvalShards,
    stager: Stager,
) -> Selection:
    """What ``recipe`` trains on for ``window``; all rows of its windows are those of ``dataset``.

    Of ``staged``, the windows that hold these rows are taken as they are. Others are staged here: a newer version came
    in between, or an older one is asked for.

    Raises:
        dg.Failure: samples of an older version are judged on by now, or its windows have another length.
    """
    partitions.refuse_other_windows(definition, dataset)
    places = stager.places
    asked = partitions.rolling_names(definition, window, recipe.window.count)
    windows = _windows_of(dataset, [name for name in asked if definition.has_partition_key(name)], staged, stager)
    val = eval_shards.val
    if not _is_of(dataset, val, "val", places):
        val = stager.splits(dataset, "val")["val"]
    if not _is_of(dataset, eval_shards.test, "test", places):
        _refuse_leak(dataset, windows.values(), eval_shards.test, places)
    end = definition.time_window_for_partition_key(window).end
    usable, left_out = usable_slices(mined, windows.values(), [val, eval_shards.val, eval_shards.test], places, end)
    return Selection(asked, windows, usable, left_out, val)


def usable_slices(
    mined: Mapping[str, ShardList],
    train: Iterable[ShardList],
    judged: Iterable[ShardList],
    places: Places,
    end: datetime,
) -> tuple[dict[str, ShardList], dict[str, str]]:
    """The mined slices that may be trained on, and why each other may not.

    They must be captured before the window's ``end``, so that an older window keeps its training set when a slice is
    mined later, and nothing of them may be in val, test or train.
    """
    if not mined:
        return {}, {}
    trained, others = _ids(train, places), _ids(judged, places)
    usable, left_out = {}, {}
    for name, part in sorted(mined.items()):
        samples = _samples(part, places)
        ids = {sample for sample, _ in samples}
        late = [moment for _, moment in samples if moment >= end]
        if not samples:
            left_out[name] = "it has no samples"
        elif late:
            left_out[name] = f"captured until {max(late):%Y-%m-%d}, after the window ended ({end:%Y-%m-%d})"
        elif ids <= trained:
            left_out[name] = COVERED
        elif shared := ids & (trained | others):
            left_out[name] = f"{len(shared)} of its samples are in train, val or test, as {min(shared)}"
        else:
            usable[name] = part
            trained |= ids
    return usable, left_out


def refuse_lacking(asked: Iterable[str], chosen: Selection) -> None:
    """
    Raises:
        dg.Failure: a mined slice that must be in the training set is not.
    """
    reasons = {name: chosen.left_out.get(name, "it is not staged") for name in asked if name not in chosen.slices}
    lacking = [f"{name}: {why}" for name, why in reasons.items() if why != COVERED]
    if lacking:
        raise dg.Failure(
            f"window {chosen.asked[-1]} cannot be trained with these slices: {'; '.join(lacking)}. Choose a later"
            " window for a slice that was captured after it, or leave the slice out.",
            allow_retries=False,
        )


def refuse_misfit(recipe: TrainConfig, chosen: Selection, dataset: DatasetVersion, places: Places) -> None:
    """
    Raises:
        dg.Failure: the recipe cannot learn from this data.
    """
    labels: Counter[str] = Counter()
    for part in [*chosen.train, chosen.val]:
        labels.update(part.label_counts)
    if reasons := recipe.misfits(read_slices(places.absolute(dataset.directory) / SLICES_FILE), labels):
        raise dg.Failure(f"{recipe.name} does not fit this data: {'; '.join(reasons)}", allow_retries=False)


def _windows_of(
    dataset: DatasetVersion, names: Sequence[str], staged: Mapping[str, ShardList], stager: Stager
) -> dict[str, ShardList]:
    directory = stager.places.absolute(dataset.directory)
    manifests = {name: window_manifest(directory, name) for name in names}
    rows = {name: sha256_of(path) for name, path in manifests.items() if path.is_file()}
    found = {name: staged[name] for name in rows if name in staged and staged[name].manifest_sha256 == rows[name]}
    found |= stager.windows(dataset, [name for name in rows if name not in found])
    return {name: found[name] for name in rows}


def _is_of(dataset: DatasetVersion, part: ShardList, split: str, places: Places) -> bool:
    (manifest,) = split_manifests(places.absolute(dataset.directory), split)
    return part.manifest_sha256 == sha256_of(manifest)


def _refuse_leak(dataset: DatasetVersion, train: Iterable[ShardList], test: ShardList, places: Places) -> None:
    if shared := _ids(train, places) & _ids([test], places):
        raise dg.Failure(
            f"dataset version {dataset.version[:12]} cannot be trained on: found {len(shared)} of its samples in"
            f" today's test split, as {min(shared)}, expected none. A model would be judged on what it learnt.",
            allow_retries=False,
        )


def _ids(parts: Iterable[ShardList], places: Places) -> set[str]:
    return {sample for part in parts for sample, _ in _samples(part, places)}


def _samples(part: ShardList, places: Places) -> list[tuple[str, datetime]]:
    """Id and capture time of each sample. Read as plain JSON: rows were checked when they were staged."""
    indexes = (json.loads((places.shards / f"{shard.key}.json").read_bytes()) for shard in part.shards)
    rows = (sample["row"] for index in indexes for sample in index["samples"])
    return [(row["sample_id"], datetime.fromisoformat(row["captured_at"])) for row in rows]
