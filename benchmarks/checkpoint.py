"""How long a checkpoint holds up the training, against ``torch.save`` of the same state to the same disk.

A real training (one rank, one thread, HydraNet and AdamW in fp32) of 100 MB and of 1 GB of state. Held up is the
training thread while ``Trainer.save`` runs and while the next step waits, before it changes a parameter, for the copy
to be done (the engine's phase ``checkpoint``). In turns with it, in the same training: ``torch.save`` without and then
with fsync, and plain ``torch.distributed.checkpoint.async_save``. The first save of each kind allocates its buffers and
is told apart. What writing costs the steps beside it is told too. Fails when a save holds the training up for more than
a tenth of ``torch.save``. Writes ``benchmarks/results/checkpoint.json``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from common import spread, write_result

from trainer.contract.train_config import TrainConfig
from trainer.data.loader import open_data
from trainer.data.scene_painting import CLASSES
from trainer.data.scenes import make_scenes
from trainer.data.staging import data_directory
from trainer.engine.loop import Callback, Trainer
from trainer.engine.parallel import Ranks
from trainer.engine.phases import Row

LARGEST_RATIO = 0.10
REPEATS = 5
QUIET = 3
"""Steps between two measurements, with nothing else going on."""

SIZES: dict[str, dict[str, Any]] = {
    # Widths whose weights and two moments come to the size; batches that take a fraction of a second.
    "100 MB": {"width": 54, "neck": 64, "batch": 12},
    "1 GB": {"width": 173, "neck": 128, "batch": 4},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, help="measure one size and print its figures as JSON")
    parser.add_argument("--folder", type=Path, help="where to write: on the disk in question (default: temporary)")
    arguments = parser.parse_args()
    if arguments.size:
        print(json.dumps(measured(arguments.size, arguments.folder)))
        return 0
    load = os.getloadavg()
    results = {size: _in_own_process(size, arguments.folder) for size in SIZES}
    worst = max(result["blocked_ratio"] for result in results.values())
    ok = worst <= LARGEST_RATIO
    report = {"blocked_ratio": worst, "budget": LARGEST_RATIO, "ok": ok, "repeats": REPEATS, "results": results}
    write_result("checkpoint", report, ("torch",), load)
    for size, result in results.items():
        _tell(size, result)
    print(f"blocked for {worst:.1%} of torch.save, budget {LARGEST_RATIO:.0%}: {'ok' if ok else 'MISSED'}")
    return 0 if ok else 1


def _in_own_process(size: str, folder: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="checkpoint-", dir=folder) as own:
        command = [sys.executable, __file__, "--size", size, "--folder", own]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _tell(size: str, result: dict[str, Any]) -> None:
    def milliseconds(name: str) -> str:
        return f"{result[name]['median_s'] * 1e3:.1f} ms"

    print(f"{size}: blocked {milliseconds('blocked')}, the first time {result['blocked_first_s'] * 1e3:.1f} ms")
    print(f"  torch.save {milliseconds('torch_save')}, with fsync {milliseconds('torch_save_fsync')}")
    print(f"  dcp.async_save blocked {milliseconds('async_save_blocked')}")
    print(f"  complete after {result['complete_after']['median_s']:.2f} s; ratio {result['blocked_ratio']:.3f}")
    print(f"  a step of {milliseconds('step')} takes {result['step_slowdown']:.2f} × as long beside the writing")


def measured(size: str, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    make_scenes(folder / "delivery", windows=1, frames_per_window=48)
    data = open_data(data_directory(folder / "delivery", folder, lambda _: None), ("train", "val"))
    measure = Measure(folder)
    trainer = Trainer(_config(**SIZES[size]), data, folder, "abcd1234", Ranks(0, 1, torch.device("cpu")), [measure])
    try:
        trainer.fit()
    except Measured:
        return measure.figures()
    raise AssertionError("the training ended before it was measured")


def _config(width: int, neck: int, batch: int) -> TrainConfig:
    # Epochs without end and no evaluation: nothing but steps.
    return TrainConfig.model_validate(
        {
            "name": "checkpoint",
            "project": "benchmarks",
            "data": {"image_size": [64, 64], "batch_size": batch, "workers": 1},
            "model": {"width": width, "neck_channels": neck},
            "tasks": {"segmentation": {"classes": list(CLASSES)}},
            "training": {"epochs": 10**6, "eval_every": 10**6, "keep_last": 1, "monitor": "segmentation/mIoU"},
        }
    )


class Measured(Exception):
    """All that was to be measured is."""


class Measure(Callback):
    """Goes through its script, one step of the training at each ``yield``."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, list[Row]()
        self.saves: list[dict[str, Any]] = []
        self.synchronous: list[dict[str, float]] = []
        self.peers: list[float] = []
        self.quiet: list[int] = []
        self.state_bytes = 0

    def before_training(self, trainer: Trainer) -> None:
        trainer.phases.collect(self.rows.append)
        self._script = self._measure(trainer)

    def after_step(self, trainer: Trainer) -> None:
        try:
            next(self._script)
        except StopIteration:
            raise Measured from None

    def _measure(self, trainer: Trainer) -> Iterator[None]:
        yield from self._steps(trainer)
        self.quiet.clear()  # those were the first of the training
        for _ in range(REPEATS + 1):
            yield from self._steps(trainer)
            yield from self._save(trainer)
            yield from self._steps(trainer)
            self._save_synchronously(trainer)
            yield from self._steps(trainer)
            yield from self._save_with_async_save(trainer)

    def _steps(self, trainer: Trainer) -> Iterator[None]:
        os.sync()
        for _ in range(QUIET):
            yield
            self.quiet.append(trainer.progress.global_step)

    def _save(self, trainer: Trainer) -> Iterator[None]:
        began, moment, step = time.perf_counter(), time.time(), trainer.progress.global_step
        trainer.save()
        took, name = time.perf_counter() - began, trainer.progress.name
        yield
        marker = self.folder / "checkpoints" / name / "COMPLETE"
        while not marker.exists():
            yield
        beside = [*range(step + 1, trainer.progress.global_step)]
        self.saves.append({"call": took, "step": step, "beside": beside, "complete": marker.stat().st_mtime - moment})

    def _save_synchronously(self, trainer: Trainer) -> None:
        tensors, path = trainer.learner.tensors(), self.folder / "synchronous.pt"
        self.state_bytes = sum(tensor.nbytes for tensor in tensors.values())
        began = time.perf_counter()
        torch.save(tensors, path)
        saved = time.perf_counter()
        with open(path, "rb") as stream:
            os.fsync(stream.fileno())
        self.synchronous.append({"save": saved - began, "fsync": time.perf_counter() - began})
        path.unlink()

    def _save_with_async_save(self, trainer: Trainer) -> Iterator[None]:
        tensors = trainer.learner.tensors()
        began = time.perf_counter()
        writer = dcp.FileSystemWriter(self.folder / "peer", sync_files=True)
        future = dcp.async_save(tensors, storage_writer=writer, no_dist=True)
        self.peers.append(time.perf_counter() - began)
        while not future.done():
            yield
        future.result()

    def figures(self) -> dict[str, Any]:
        # The row of step n is the (n-1)-th; what the step after a save waited is in the row of that step.
        blocked = [save["call"] + self._row(save["step"] + 1)["checkpoint"] for save in self.saves]
        saved = [one["save"] for one in self.synchronous]
        quiet = [self._seconds(step) for step in self.quiet]
        beside = [self._seconds(step) for save in self.saves[1:] for step in save["beside"]]
        return {
            "state_bytes": self.state_bytes,
            "blocked_ratio": round(statistics.median(blocked[1:]) / statistics.median(saved[1:]), 4),
            "ratios": spread([mine / theirs for mine, theirs in zip(blocked[1:], saved[1:], strict=True)], digits=4),
            "blocked": spread(blocked[1:], "s", digits=5),
            "of_it_in_the_call": spread([save["call"] for save in self.saves[1:]], "s", digits=5),
            "blocked_first_s": round(blocked[0], 5),
            "torch_save": spread(saved[1:], "s"),
            "torch_save_fsync": spread([one["fsync"] for one in self.synchronous[1:]], "s"),
            "async_save_blocked": spread(self.peers[1:], "s", digits=5),
            "async_save_blocked_first_s": round(self.peers[0], 5),
            "complete_after": spread([save["complete"] for save in self.saves[1:]], "s"),
            "step": spread(quiet, "s"),
            "step_beside_writing": spread(beside, "s"),
            "step_slowdown": round(statistics.median(beside) / statistics.median(quiet), 3),
        }

    def _row(self, step: int) -> dict[str, float]:
        return self.rows[step - 1].seconds

    def _seconds(self, step: int) -> float:
        row = self._row(step)
        return sum(row[phase] for phase in ("forward", "backward", "optimizer"))


if __name__ == "__main__":
    sys.exit(main())
