"""The peers of ``loader.py``: the same frames to the same batches with webdataset, litdata and a plain DataLoader.

Each is put together as its documentation says, with the same workers, prefetching and batch size. There are two ways
from bytes to pixels: ``opencv`` gives the peer this project's own decoder, crop, resampling and jitter, so that
nothing but the loader differs; ``pillow`` is what the peers' documentation shows.
"""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from trainer.contract.train_config import Data
from trainer.data.augment import jitter, random_view
from trainer.data.loader import single_threaded, to_tensor
from trainer.data.masks import decode_png

PREFETCH = 4
Pair = tuple[torch.Tensor, torch.Tensor]
RNG = np.random.default_rng()


class Prepare:
    """Image and mask bytes → the sample of the batch."""

    def __init__(self, data: Data, scored: np.ndarray, way: str) -> None:
        self.data, self.scored, self.way = data, scored, way

    def __call__(self, image: bytes, mask: bytes | np.ndarray) -> Pair:
        return self._opencv(image, mask) if self.way == "opencv" else self._pillow(image, mask)

    def _opencv(self, image: bytes, mask: bytes | np.ndarray) -> Pair:
        source = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR_RGB)
        labels = mask if isinstance(mask, np.ndarray) else decode_png(mask)
        view = random_view(source.shape[:2], self.data.image_size, self.data.augmentation, RNG)
        pixels = jitter(view.image(source), self.data.augmentation, RNG)
        return to_tensor(pixels), torch.from_numpy(cv2.LUT(view.mask(labels), self.scored))

    def _pillow(self, image: bytes, mask: bytes | np.ndarray) -> Pair:
        from PIL import Image

        source = Image.open(io.BytesIO(image)).convert("RGB")
        labels = Image.fromarray(mask) if isinstance(mask, np.ndarray) else Image.open(io.BytesIO(mask))
        view = random_view((source.height, source.width), self.data.image_size, self.data.augmentation, RNG)
        box, size = (view.x, view.y, view.x + view.width, view.y + view.height), (view.out_width, view.out_height)
        small = source.resize(size, Image.Resampling.BILINEAR, box=box)
        label = labels.resize(size, Image.Resampling.NEAREST, box=box)
        if view.mirrored:
            small, label = (one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in (small, label))
        pixels = jitter(np.asarray(small), self.data.augmentation, RNG)
        return to_tensor(pixels), torch.from_numpy(cv2.LUT(np.asarray(label), self.scored))


def start_worker(worker: int) -> None:
    global RNG
    RNG = np.random.default_rng()
    single_threaded()


class Files(Dataset[Pair]):
    def __init__(self, pairs: list[tuple[Path, Path]], prepare: Prepare) -> None:
        self.pairs, self.prepare = pairs, prepare

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        image, mask = self.pairs[index]
        return self.prepare(image.read_bytes(), mask.read_bytes())


def files(pairs: list[tuple[Path, Path]], prepare: Prepare, workers: int) -> Iterable[Any]:
    """PyTorch's data tutorial and performance guide: persistent workers, shuffled by the sampler."""
    return DataLoader(
        Files(pairs, prepare), batch_size=prepare.data.batch_size, shuffle=True, drop_last=True, num_workers=workers,
        persistent_workers=True, prefetch_factor=PREFETCH, worker_init_fn=start_worker,
    )  # fmt: skip


def write_webdataset(pairs: list[tuple[Path, Path]], out: Path, shards: int) -> None:
    import webdataset

    out.mkdir()
    with webdataset.ShardWriter(str(out / "%04d.tar"), maxcount=-(-len(pairs) // shards), verbose=0) as writer:
        for number, (image, mask) in enumerate(pairs):
            writer.write({"__key__": f"{number:06d}", "jpg": image.read_bytes(), "png": mask.read_bytes()})


def web(out: Path, prepare: Prepare, workers: int) -> Iterable[Any]:
    """webdataset's guide: shuffle shards, then a buffer; batch in the workers; WebLoader without batching."""
    import webdataset

    shards = sorted(str(path) for path in out.glob("*.tar"))
    data = (
        webdataset.WebDataset(shards, shardshuffle=len(shards))
        .shuffle(200)
        .to_tuple("jpg", "png")
        .map(_Spread(prepare))
        .batched(prepare.data.batch_size, partial=False)
    )
    return webdataset.WebLoader(
        data, batch_size=None, num_workers=workers, persistent_workers=True, prefetch_factor=PREFETCH,
        worker_init_fn=start_worker,
    )  # fmt: skip


class _Spread:
    def __init__(self, prepare: Prepare) -> None:
        self.prepare = prepare

    def __call__(self, pair: tuple[bytes, bytes]) -> Pair:
        return self.prepare(*pair)


def _record(pair: tuple[Path, Path, bool]) -> dict[str, Any]:
    image, mask, raw = pair
    data = mask.read_bytes()
    return {"image": image.read_bytes(), "mask": decode_png(data) if raw else data}


def write_litdata(pairs: list[tuple[Path, Path]], out: Path, raw_masks: bool) -> None:
    import litdata

    inputs = [(*pair, raw_masks) for pair in pairs]
    litdata.optimize(fn=_record, inputs=inputs, output_dir=str(out), chunk_bytes="64MB", num_workers=1, verbose=False)


def lit(out: Path, prepare: Prepare, workers: int) -> Iterable[Any]:
    """litdata's README: optimise once, then a StreamingDataset whose items are prepared in ``__getitem__``."""
    import litdata

    class Streamed(litdata.StreamingDataset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> Pair:
            item = super().__getitem__(index)
            return prepare(item["image"], item["mask"])

    data = Streamed(str(out), shuffle=True, drop_last=True)
    return litdata.StreamingDataLoader(
        data, batch_size=prepare.data.batch_size, num_workers=workers, drop_last=True, persistent_workers=True,
        prefetch_factor=PREFETCH, worker_init_fn=start_worker,
    )  # fmt: skip


Make = Callable[[], Iterable[Any]]
