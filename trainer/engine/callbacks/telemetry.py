"""Measures the run: each step's phases on every rank, the node's load on one rank a node."""

import os
import re
import socket
import time
from collections import deque
from pathlib import Path

import torch

from trainer.contract.bottleneck import Conditions, summarise
from trainer.contract.results import Telemetry as Summary
from trainer.contract.results import TrainResult
from trainer.contract.telemetry import STEP_COLUMNS, next_attempt, read_steps, read_system, steps_file, system_file
from trainer.contract.train_config import Telemetry as Settings
from trainer.engine.loop import Callback, Trainer
from trainer.engine.phases import Phases, Row
from trainer.engine.telemetry.all_reduce import AllReduce, Unknown, all_reduce_of
from trainer.engine.telemetry.flops import peak_flops, step_flops
from trainer.engine.telemetry.journal import Journal
from trainer.engine.telemetry.sampler import Sampler
from trainer.reporting import Reporter

FLUSH_S = 5.0


class Telemetry(Callback):
    """Writes ``telemetry/`` of the run directory; after the training ``summary`` says what held the run up.

    What cannot be written is told once and does not end the run.
    """

    def __init__(self, settings: Settings, run_dir: Path, report: Reporter) -> None:
        self.settings, self.run_dir, self.report = settings, run_dir, report
        self.summary: Summary | None = None
        self._phases: Phases | None = None
        self._journal: Journal | None = None
        self._sampler: Sampler | None = None
        self._all_reduce: AllReduce = Unknown()
        self._rows: deque[Row] = deque()
        self._exposed: dict[int, float] = {}
        self._written = self._steps = self._first_step = 0
        self._steps_per_epoch, self._flushed = 1, 0.0

    def before_training(self, trainer: Trainer) -> None:
        ranks = trainer.ranks
        node = re.sub(r"[^A-Za-z0-9_.]", "_", socket.gethostname())
        everybody = ranks.gather((node, os.getpid(), _gpu_uuid(ranks.device)))
        attempt = ranks.gather(next_attempt(self.run_dir))[0]
        first = next(rank for rank, (other, *_) in enumerate(everybody) if other == node)
        self._first_step, self._steps_per_epoch = trainer.progress.global_step + 1, trainer.order.steps_per_epoch
        try:
            self._journal = Journal(steps_file(self.run_dir, ranks.rank, attempt), STEP_COLUMNS, ("step", "epoch"))
            if ranks.rank == first:
                pids = [pid for other, pid, _ in everybody if other == node]
                gpus = [gpu for other, _, gpu in everybody if other == node and gpu is not None]
                file = system_file(self.run_dir, node, attempt)
                self._sampler = Sampler(file, self.settings.interval_ms, pids, gpus)
        except OSError as error:
            self._give_up(error)
        every = self.settings.sample_every
        self._all_reduce = all_reduce_of(trainer.step.module, every)
        self._phases = trainer.phases
        self._phases.collect(self._rows.append, _cuda_moment if ranks.device.type == "cuda" else None, every)

    def after_step(self, trainer: Trainer) -> None:
        self._steps += 1
        if news := self._all_reduce.exposed(self._steps):
            step, seconds = news
            self._exposed[step] = seconds
        if time.perf_counter() - self._flushed >= FLUSH_S:
            self._flush()

    def before_save(self, trainer: Trainer) -> None:
        self._flush()

    def after_training(self, trainer: Trainer) -> None:
        self._close()
        trainer.ranks.barrier()
        if trainer.ranks.leads:
            self.summary = summarise(read_steps(self.run_dir), read_system(self.run_dir), _conditions(trainer))
            self.report.info(self.summary.verdict)

    def at_end(self, trainer: Trainer) -> None:
        self._close()

    def added_to(self, result: TrainResult) -> TrainResult:
        return result.model_copy(update={"telemetry": self.summary})

    def _close(self) -> None:
        """Write what is left and end the sampler; a second call does nothing."""
        if self._phases is not None:
            self._phases.finish()
        self._flush(last=True)
        journal, self._journal = self._journal, None
        sampler, self._sampler = self._sampler, None
        if sampler is not None:
            sampler.stop()
        if journal is not None:
            try:
                journal.close()
            except OSError as error:
                self._give_up(error)

    def _flush(self, last: bool = False) -> None:
        self._flushed = time.perf_counter()
        rows = []
        while self._rows and (last or _reached(self._rows[0])):
            self._written += 1
            rows.append(self._as_written(self._rows.popleft(), self._written))
        try:
            if self._journal is not None:
                self._journal.append(rows)
        except OSError as error:
            self._give_up(error)

    def _as_written(self, row: Row, number: int) -> dict[str, float | None]:
        step = self._first_step + number - 1
        return {
            "step": step,
            "epoch": (step - 1) // self._steps_per_epoch,
            "time": time.time() - (time.perf_counter() - row.ended),
            **row.seconds,
            **_device_seconds(row),
            "all_reduce": self._exposed.pop(number, None),
        }

    def _give_up(self, error: OSError) -> None:
        self._journal = None
        self.report.info(f"telemetry is not written any more: {error}")


def _cuda_moment() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _reached(row: Row) -> bool:
    """Whether the device is past the row: its times can be read without waiting for it."""
    try:
        return not row.moments or row.moments[-1][1].query()
    except RuntimeError:  # the device is lost: the training says so, not its telemetry
        return False


def _device_seconds(row: Row) -> dict[str, float]:
    """The device's seconds of each phase: between the moments at the phases' ends."""
    seconds: dict[str, float] = {}
    if not _reached(row):
        return seconds
    for (_, begin), (phase, end) in zip(row.moments, row.moments[1:], strict=False):
        column = f"device_{phase}"
        seconds[column] = seconds.get(column, 0.0) + begin.elapsed_time(end) / 1000
    return seconds


def _gpu_uuid(device: torch.device) -> str | None:
    """The GPU as NVML names it; None on a CPU."""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}" if device.type == "cuda" else None


def _conditions(trainer: Trainer) -> Conditions:
    config, device = trainer.config, trainer.ranks.device
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    peak = None if gpu is None else peak_flops(gpu, config.training.precision)
    share = config.data.batch_size // trainer.ranks.world_size
    return Conditions(
        batch_size=config.data.batch_size,
        workers=config.data.workers,
        gpu=gpu,
        peak_flops=peak,
        step_flops=None if peak is None else step_flops(config, trainer.tasks, share),
    )
