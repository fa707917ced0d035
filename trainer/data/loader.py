"""Shards become batches: read, decode, augment, make each task's targets, collate."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from trainer.contract.errors import ContractError
from trainer.contract.shard_index import DataSpec, read_data_spec
from trainer.contract.slices import Slices, read_slices
from trainer.contract.train_config import Data
from trainer.data.augment import View, jitter, random_view, whole
from trainer.data.cache import PixelCache
from trainer.data.masks import decode_png, decode_runs
from trainer.data.order import Order, sample_rng
from trainer.data.sample import BLIND, Labelled
from trainer.data.shards import DamagedShard, ShardReader
from trainer.process import die_with_parent

Batch = dict[str, torch.Tensor]

MakeTensors = Callable[[Labelled], Batch]
"""A task's inputs or targets for one sample, equal shapes for all samples."""


@dataclass(frozen=True)
class DataSet:
    """A data directory: ``data.json``, its slices, and a reader for each split."""

    spec: DataSpec
    slices: Slices
    readers: dict[str, ShardReader]


def open_data(directory: Path, splits: Sequence[str] | None = None) -> DataSet:
    """The data set in ``directory``, with readers for ``splits`` (all by default)."""
    spec = read_data_spec(directory)
    wanted = spec.splits if splits is None else splits
    readers = {
        split: ShardReader((directory / path for path in spec.splits.get(split, ())), spec.selected(split))
        for split in wanted
    }
    return DataSet(spec, read_slices(directory / spec.slices), readers)


class TrainingSamples(Dataset[Batch]):
    """``(epoch, sample)`` → the augmented image (3×H×W uint8 RGB) and every task's targets, ``<task>.<name>``.

    What goes wrong with a sample is raised with a note that names it.
    """

    def __init__(self, reader: ShardReader, data: Data, targets: Mapping[str, MakeTensors], seed: int) -> None:
        self.reader, self.data, self.targets, self.seed = reader, data, targets, seed
        cached = data.cache_mb and reader.keys and data.camera
        self.cache = PixelCache(reader.keys, len(reader), data.cache_mb << 20) if cached else None

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        try:
            return self._load(*key)
        except Exception as error:
            error.add_note(f"while loading {self.reader.name(key[1])} for epoch {key[0]}")
            raise

    def _load(self, epoch: int, index: int) -> Batch:
        rng, size = sample_rng(self.seed, epoch, index), self.data.image_size
        batch: Batch = {}
        if size is None:
            labelled = Labelled(self.reader.row(index), BLIND, (0, 0), None, rng)
        else:
            source = self._source(index)
            view = random_view(source.shape[:2], size, self.data.augmentation, rng)
            batch["image"] = to_tensor(jitter(view.image(source), self.data.augmentation, rng))
            labelled = labelled_sample(self.reader, index, view, source.shape[:2], rng)
        for task, make in self.targets.items():
            batch |= {f"{task}.{name}": value for name, value in make(labelled).items()}
        return batch

    def _source(self, index: int) -> np.ndarray:
        """The image as delivered, decoded once while the cache has room for it."""
        image = None if self.cache is None else self.cache.get(index)
        if image is None:
            image = read_image(self.reader, index)
            if self.cache is not None:
                self.cache.put(index, image)
        return image


class EvaluationSamples(Dataset[tuple[Labelled, Batch]]):
    """Sample number → the sample (mask as delivered) and what the network is given: the whole image, tasks' inputs."""

    def __init__(self, reader: ShardReader, data: Data, inputs: Mapping[str, MakeTensors]) -> None:
        self.reader, self.image_size, self.inputs = reader, data.image_size, inputs

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> tuple[Labelled, Batch]:
        given: Batch = {}
        if self.image_size is None:
            sample = Labelled(self.reader.row(index), BLIND, (0, 0), None)
        else:
            source = read_image(self.reader, index)
            height, width = source.shape[:2]
            view = whole((height, width), self.image_size)
            given["image"] = to_tensor(view.image(source))
            sample = Labelled(self.reader.row(index), view, (height, width), read_mask(self.reader, index))
        for task, make in self.inputs.items():
            given |= {f"{task}.{name}": value for name, value in make(sample).items()}
        return sample, given


class TrainingLoader:
    """The rank's batches of an epoch from any step on, by ``data.workers`` persistent worker processes."""

    def __init__(self, samples: TrainingSamples, order: Order, rank: int, world_size: int, pin: bool) -> None:
        self._schedule = _Schedule(order, rank, world_size)
        workers = samples.data.workers
        self._loader = DataLoader(
            samples,
            batch_sampler=self._schedule,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            pin_memory=pin,
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # each iterator draws a seed: not from the training's own generator
        )

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """
        Raises:
            ContractError: a task cannot take a sample.
            DamagedShard: a sample cannot be read.
        """
        self._schedule.begin = epoch, first_step
        batches = iter(self._loader)
        return _in_their_words(batches) if self._loader.num_workers else batches


def _in_their_words(batches: Iterator[Batch]) -> Iterator[Batch]:
    """``batches``; where torch tells a worker's error as the text of its traceback, the error says its own again."""
    try:
        yield from batches
    except (ContractError, DamagedShard) as error:
        raise type(error)(str(error).rpartition(f"{type(error).__name__}: ")[2].strip()) from None


class _Schedule:
    """A batch sampler that works out the rank's batches as they are wanted, from ``begin`` (epoch, step) on."""

    def __init__(self, order: Order, rank: int, world_size: int) -> None:
        self.order, self.rank, self.world_size, self.begin = order, rank, world_size, (0, 0)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.order.batches(*self.begin, self.rank, self.world_size)

    def __len__(self) -> int:
        return self.order.steps_per_epoch - self.begin[1]


def _start_worker(worker: int) -> None:
    # A stop signal reaches the whole process group, but the rank needs its loader to reach the step's end:
    # the worker leaves the group, and dies with its rank instead.
    os.setpgid(0, 0)
    die_with_parent()
    single_threaded()


def single_threaded() -> None:
    """One thread for OpenCV and torch, where several processes share the host's cores."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def image_member(reader: ShardReader, index: int) -> str | None:
    """The name of the member that holds a sample's image; None where it has none."""
    return next((name for name in reader.members(index) if name not in ("json", "semantic.png", "semantic.rle")), None)


def read_image(reader: ShardReader, index: int) -> np.ndarray:
    """The decoded image of a sample, H×W×3 uint8 RGB.

    Raises:
        DamagedShard: it cannot be decoded.
    """
    name = image_member(reader, index)
    if name is None:
        raise DamagedShard(f"{reader.name(index)}: has no image, and the recipe's data.image_size asks for one")
    image = cv2.imdecode(np.frombuffer(reader.read(index, name), np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DamagedShard(f"{reader.place(index, name)}: cannot be decoded")
    return image


def read_mask(reader: ShardReader, index: int) -> np.ndarray | None:
    """The label mask of a sample, H×W uint8, or None if it has none.

    Raises:
        ValueError: it cannot be decoded.
    """
    members = reader.members(index)
    if "semantic.rle" in members:
        return decode_runs(reader.read(index, "semantic.rle"))
    if "semantic.png" not in members:
        return None
    mask = decode_png(reader.read(index, "semantic.png"))
    if mask is None:
        raise ValueError(f"sample '{reader.row(index).sample_id}': its mask is no one-channel 8-bit PNG")
    return mask


def labelled_sample(
    reader: ShardReader, index: int, view: View, source_size: tuple[int, int], rng: np.random.Generator
) -> Labelled:
    mask = read_mask(reader, index)
    return Labelled(reader.row(index), view, source_size, None if mask is None else view.mask(mask), rng)


def to_tensor(image: np.ndarray) -> torch.Tensor:
    planes = np.empty((image.shape[2], *image.shape[:2]), np.uint8)
    cv2.split(image, list(planes))
    return torch.from_numpy(planes)


def batch_length(batch: Batch) -> int:
    """How many samples are in ``batch``."""
    return len(next(iter(batch.values())))


def to_device(batch: dict[str, Any], device: torch.device) -> Batch:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
