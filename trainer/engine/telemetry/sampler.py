"""Samples a node every so many milliseconds, in a process of its own beside the ranks: ``python -m …sampler``.

It ends with a byte (or the end) on its standard input, and is killed with the rank that started it.
"""

import argparse
import contextlib
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from trainer.contract.telemetry import SYSTEM_COLUMNS, gpu_columns
from trainer.engine.telemetry.journal import Journal
from trainer.process import die_with_parent

APPEND_S = 5.0
STOP_S = 10.0

Sample = dict[str, float | None]
Gpu = Callable[[], tuple[float, float]]
"""Reads a GPU's utilisation (%) and used memory (bytes)."""


class Sampler:
    """The process that samples this node; runs from its construction to ``stop``."""

    def __init__(self, file: Path, interval_ms: int, pids: Sequence[int], gpus: Sequence[str]) -> None:
        arguments = ["--file", file, "--interval-ms", interval_ms, "--pids", *pids]
        if gpus:
            arguments += ["--gpus", *gpus]
        command = [sys.executable, "-m", "trainer.engine.telemetry.sampler", *(str(part) for part in arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603

    def stop(self) -> None:
        """Have it write its file and end; one that does not is killed."""
        assert self._process.stdin is not None
        # A byte, not only the end of the pipe: forked loader workers hold its other handles.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"\n")
            self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--interval-ms", type=int, required=True)
    parser.add_argument("--pids", type=int, nargs="+", required=True)
    parser.add_argument("--gpus", nargs="+", default=[])
    arguments = parser.parse_args()
    die_with_parent()
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, signal.SIG_IGN)  # the ranks decide when the run ends
    gpus = _gpu_readers(arguments.gpus)
    journal = Journal(arguments.file, (*SYSTEM_COLUMNS, *gpu_columns(len(gpus))))
    rows: list[Sample] = []
    appended = time.monotonic()
    for sample in _samples(arguments.interval_ms / 1000, arguments.pids, gpus):
        rows.append(sample)
        if time.monotonic() - appended >= APPEND_S:
            journal.append(rows)
            rows, appended = [], time.monotonic()
    journal.append(rows)
    journal.close()


def _samples(interval: float, pids: Sequence[int], gpus: Sequence[Gpu]) -> Iterator[Sample]:
    """A sample every ``interval`` seconds from now on, until there is something on standard input."""
    counters, due = _counters(), time.monotonic()
    psutil.cpu_times_percent()
    before = due
    while True:
        due += interval
        # A host that was asleep does not get the samples it slept through.
        due = max(due, time.monotonic())
        if select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
            return
        now, latest = time.monotonic(), _counters()
        rates = {name: (latest[name] - counters[name]) / (now - before) for name in latest}
        counters, before = latest, now
        yield {"time": time.time(), **_cpu(), "ram_bytes": _ram(pids), **rates, **_gpu(gpus)}


def _cpu() -> Sample:
    """The node's CPU time since the last call; ``iowait`` is of Linux alone."""
    times = psutil.cpu_times_percent()
    waiting = getattr(times, "iowait", None)
    return {"cpu_percent": 100.0 - times.idle - (waiting or 0.0), "iowait_percent": waiting}


def _ram(pids: Sequence[int]) -> float:
    """Resident bytes of the ranks and their children; pages that processes share count in each of them."""
    processes: set[psutil.Process] = set()
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            rank = psutil.Process(pid)
            processes |= {rank, *rank.children(recursive=True)}
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return float(total)


def _counters() -> dict[str, int]:
    """Bytes so far through the network devices, loopback aside, and the disks; what the host hides is left out."""
    wires = [count for name, count in psutil.net_io_counters(pernic=True).items() if name != "lo"]
    disk: Any = psutil.disk_io_counters()
    counters = {
        "net_sent_bytes_per_s": sum(count.bytes_sent for count in wires),
        "net_received_bytes_per_s": sum(count.bytes_recv for count in wires),
    }
    if disk is not None:
        counters |= {"disk_read_bytes_per_s": disk.read_bytes, "disk_written_bytes_per_s": disk.write_bytes}
    return counters


def _gpu_readers(uuids: Sequence[str]) -> list[Gpu]:
    """A reader for each GPU; none where NVML does not know them all."""
    if not uuids:
        return []
    import pynvml

    def reader(uuid: str) -> Gpu:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return lambda: (
            float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu),
            float(pynvml.nvmlDeviceGetMemoryInfo(handle).used),
        )

    try:
        pynvml.nvmlInit()
        return [reader(uuid) for uuid in uuids]
    except pynvml.NVMLError as error:
        print(f"telemetry: no GPU columns, NVML says: {error}", file=sys.stderr)
        return []


def _gpu(gpus: Sequence[Gpu]) -> Sample:
    values: list[float | None] = []
    for read in gpus:
        try:
            values += read()
        except Exception:  # a lost GPU is the training's business; its columns are null from here on
            values += [None, None]
    return dict(zip(gpu_columns(len(gpus)), values, strict=True))


if __name__ == "__main__":
    main()
