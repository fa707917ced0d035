"""How fast a form of the model is and how much memory it takes, in a process of its own on one CPU thread.

``python -m trainer.export.latency MODULE FILE FOLDER`` is that process: it loads ``FILE`` with the format ``MODULE``
and runs it on the samples that lie in ``FOLDER``. It is fresh, so that its peak memory is that of this form alone, and
imports no more than the form needs.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.export.passes import Arrays, Run
from trainer.process import die_with_parent

if TYPE_CHECKING:
    from trainer.contract.results import Measured, Timing

WARM_UP = 5
REPEATS, LEAST_REPEATS, SECONDS = 100, 10, 2.0
"""As many passes as fit into the seconds, within these bounds."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
INPUTS, SINGLE, BATCHED = "inputs.npz", "single.npz", "batched.npz"


def measure(module: str, file: Path, inputs: Arrays) -> tuple["Measured", Arrays]:
    """Load ``file`` with the format ``module`` and run it on the first sample of ``inputs``, then on all of them.

    Returns the figures, and what it said: the outputs for the first sample, then those for all.

    Raises:
        subprocess.CalledProcessError: the process ended early; what it said is on standard error.
    """
    from trainer.contract.results import Measured

    with TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / INPUTS, *inputs)
        command = [sys.executable, "-m", __name__, module, str(file), name]
        subprocess.run(command, env={**os.environ, **ONE_THREAD}, check=True)  # noqa: S603 - our own module
        single, outputs = _read(folder / SINGLE, 1)
        batched, more = _read(folder / BATCHED, len(inputs[0]))
    return Measured(latency=single, throughput=batched), [*outputs, *more]


def timing(seconds: Sequence[float], batch: int, peak_memory: int | None, pinned: bool) -> "Timing":
    """The figures of so many forward passes of ``batch`` samples."""
    from trainer.contract.results import Timing

    p50, p95, p99 = (float(value) for value in 1000 * np.percentile(seconds, [50, 95, 99]))
    return Timing(
        batch=batch,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        samples_per_second=batch * len(seconds) / float(np.sum(seconds)),
        peak_memory_bytes=peak_memory,
        repeats=len(seconds),
        pinned=pinned,
    )


def _read(path: Path, batch: int) -> tuple["Timing", Arrays]:
    with np.load(path) as found:
        peak = int(found["peak_memory"]) or None
        figures = timing(found["seconds"], batch, peak, bool(found["pinned"]))
        return figures, _arrays(found)


def _arrays(found: Any) -> Arrays:
    return [found[f"arr_{number}"] for number in range(sum(name.startswith("arr_") for name in found.files))]


def _measure_here(module: str, file: Path, folder: Path) -> None:
    die_with_parent()
    pinned = _pin()
    run = import_module(module).load(file)
    with np.load(folder / INPUTS) as found:
        inputs = _arrays(found)
    for name, given in ((SINGLE, [array[:1] for array in inputs]), (BATCHED, inputs)):
        outputs, seconds = _timed(run, given)
        np.savez(folder / name, *outputs, seconds=seconds, peak_memory=_peak_memory(), pinned=pinned)


def _pin() -> bool:
    """Keep this process on one of its cores, where the system lets it."""
    try:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    except (AttributeError, OSError):
        return False
    return True


def _timed(run: Run, given: Arrays) -> tuple[Arrays, list[float]]:
    for _ in range(WARM_UP):
        outputs = run(given)
    seconds: list[float] = []
    while len(seconds) < LEAST_REPEATS or (len(seconds) < REPEATS and sum(seconds) < SECONDS):
        began = time.perf_counter()
        run(given)
        seconds.append(time.perf_counter() - began)
    return outputs, seconds


def _peak_memory() -> int:
    """The most bytes that were resident so far; 0 where the system does not say.

    Not ``getrusage``: on Linux a child's ``ru_maxrss`` begins with what its parent had when it started the child.
    """
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0


if __name__ == "__main__":
    _measure_here(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
