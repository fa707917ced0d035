"""A small part of a training set: evenly spread over its shards, and over the samples of those."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from trainer.contract.manifest import LABEL_FIELDS
from trainer.contract.shard_index import DataSpec, Selection, read_data_spec, read_head, read_index
from training_assets.assets.training import write_data_directory
from training_assets.places import Places
from training_assets.records import TrainingSet
from training_assets.sweeps.settings import Stability

T = TypeVar("T")


def small_training_set(
    whole: TrainingSet, asked: Stability, at_least: int, places: Places, directory: Path
) -> TrainingSet:
    """As much of ``whole`` as is asked for, ``at_least`` samples where it has them, written into ``directory``."""
    wanted = asked.samples or math.ceil((asked.share or 1.0) * whole.samples)
    wanted = min(max(wanted, at_least), whole.samples)
    spec = smaller(read_data_spec(places.absolute(whole.directory)), places.shards, wanted)
    write_data_directory(spec, places, directory, whole.dataset)
    changed = {"directory": places.relative(directory), "digest": spec.digest, "samples": wanted}
    return whole.model_copy(update=changed)


def smaller(spec: DataSpec, shards: Path, wanted: int) -> DataSpec:
    """``wanted`` samples of the train split, in as few of its shards as hold them. Paths are relative to ``shards``."""
    names = {split: [Path(path).name for path in paths] for split, paths in spec.splits.items()}
    chosen = _enough(names["train"], shards, wanted)
    rows = [sample.row for name in chosen for sample in read_index(shards / name).samples]
    samples = tuple(spread(range(len(rows)), wanted))
    labels = {kind: sum(rows[place].has_label(kind) for place in samples) for kind in LABEL_FIELDS}
    splits = {split: tuple(chosen if split == "train" else every) for split, every in names.items()}
    return spec.model_copy(update={"splits": splits, "selection": {"train": Selection(samples=samples, labels=labels)}})


def _enough(names: list[str], shards: Path, wanted: int) -> list[str]:
    counts = {name: read_head(shards / name).count or 0 for name in names}
    parts = (spread(names, number) for number in range(1, len(names) + 1))
    return next((part for part in parts if sum(counts[name] for name in part) >= wanted), names)


def spread(every: Sequence[T], number: int) -> list[T]:
    """So many of ``every``, evenly spaced, in their order."""
    return [every[place * len(every) // number] for place in range(number)]
