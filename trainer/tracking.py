"""Tells experiment tracking how a training goes, without ever waiting for it.

What is told is written into the run directory first (``trainer/contract/tracking.py``); W&B itself is in a process of
its own (``trainer/tracking_worker.py``), which reads it there. Whatever becomes of that process, nothing is lost.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Literal

from trainer.contract.errors import ContractError, Problem
from trainer.contract.names import read_identity
from trainer.contract.tracking import (
    MODE,
    Made,
    Record,
    append,
    effective_mode,
    is_tracked,
    line_of,
    log_of,
    offline_runs,
    open_spool,
    run_url,
    spool_of,
    sync_command,
)
from trainer.contract.train_config import TrackingMode, read_config

QUEUE = 10_000
CLOSE_S = 30.0
CATCH_UP_S = 120.0
INHERITED = (
    *("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
    *("TRAINING_ASSETS_REVISION", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
)
INHERITED_ONLINE = (
    *("WANDB_API_KEY", "WANDB_BASE_URL", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
    *(name for proxy in ("http_proxy", "https_proxy", "no_proxy") for name in (proxy, proxy.upper())),
)

Say = Callable[[str], None]


class Tracker:
    """Takes records; a thread of its own appends them to the run's spool, where W&B's worker reads them.

    Nothing here waits for a disk or a network but ``close``, which waits ``seconds`` at most. What goes wrong is said
    once, and ends nothing.
    """

    def __init__(self, run_dir: Path, mode: TrackingMode, say: Say, limit: int = QUEUE) -> None:
        self.run_dir, self.say = run_dir, say
        self._queue: queue.Queue[Record | None] = queue.Queue(limit)
        self._lost, self._why, self._said = 0, "", False
        self._worker = self._started(mode)
        self._thread = threading.Thread(target=self._write, name="tracking", daemon=True)
        self._thread.start()

    def tell(self, record: Record) -> None:
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._lose("the disk does not keep up")
        self._look()

    def close(self, seconds: float = CLOSE_S) -> None:
        """Have everything written and W&B's worker end; a second call does nothing."""
        until = time.monotonic() + seconds
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=seconds / 2)
        self._thread.join(max(0.0, until - time.monotonic()) / 2)
        if self._thread.is_alive():
            self._why = self._why or "the disk does not keep up"
            self._lost += self._queue.qsize()
        worker, self._worker = self._worker, None
        if worker is not None and not _ended(worker, until):
            self._say(f"experiment tracking did not finish within {seconds:g} s and was ended")
        if self._lost:
            self.say(f"experiment tracking: {self._lost} records were not kept in {self.run_dir}: {self._why}")

    def _started(self, mode: TrackingMode) -> "subprocess.Popen[bytes] | None":
        try:
            return start_worker(self.run_dir, mode, "--follow")
        except OSError as error:
            self._say(f"experiment tracking did not start: {error}")
            return None

    def _write(self) -> None:
        stream: IO[bytes] | None = None
        while (record := self._queue.get()) is not None:
            try:
                if stream is None:
                    stream = open_spool(self.run_dir)
                stream.write(line_of(record))
            except OSError as error:
                self._lose(str(error))
                stream = None  # opened again, it goes on on a line of its own
        if stream is not None:
            stream.close()

    def _lose(self, why: str) -> None:
        self._lost, self._why = self._lost + 1, why

    def _look(self) -> None:
        if self._worker is not None and (code := self._worker.poll()) is not None:
            self._say(f"experiment tracking ended with {code}, the training goes on")
        elif self._lost:
            self._say(f"experiment tracking loses records: {self._why}")

    def _say(self, what: str) -> None:
        if not self._said:
            self._said = True
            self.say(f"{what}. {_advice(self.run_dir)}")


def _advice(run_dir: Path) -> str:
    return f"See {log_of(run_dir)}; `python -m trainer track {run_dir}` goes on with it."


def tell_made(run_dir: Path, what: Literal["evaluation", "export", "card"], path: Path, say: Say) -> None:
    """Tell the tracking of the run in ``run_dir``, if it has one, what was made of its checkpoint."""
    if not is_tracked(run_dir):
        return
    try:
        mode = effective_mode(read_config(run_dir / "train.yaml", environment={}).tracking.mode)
        if mode == "disabled":
            return
        where = path.absolute()
        inside = where.is_relative_to(run_dir.absolute())
        append(run_dir, Made(what=what, path=str(where.relative_to(run_dir.absolute()) if inside else where)))
    except (OSError, ValueError) as error:
        say(f"experiment tracking was not told of the {what}: {error}")
        return
    catch_up(run_dir, mode, say)


def catch_up_by_hand(run_dir: Path, say: Say) -> bool:
    """Tell W&B what it was not told yet of the run, and say where that is to be found; whether it was done.

    Raises:
        ContractError: there is no run, or nothing was ever told of it.
    """
    if not is_tracked(run_dir):
        problem = Problem(str(spool_of(run_dir)), "nothing", "what a training with tracking told")
        raise ContractError("there is nothing to track", [problem])
    config, identity = read_config(run_dir / "train.yaml", environment={}), read_identity(run_dir)
    mode = effective_mode(config.tracking.mode)
    if mode == "disabled":
        say(f"tracking is disabled (tracking.mode of the recipe, or {MODE})")
        return False
    done = catch_up(run_dir, mode, say)
    if url := run_url(config.tracking.entity, config.project, identity.id) if mode == "online" else None:
        say(f"run {identity.id}: {url}")
    if offline_runs(run_dir):
        say(f"run {identity.id} is kept offline; send it with: {sync_command(run_dir)}")
    return done


def catch_up(run_dir: Path, mode: TrackingMode, say: Say, seconds: float = CATCH_UP_S) -> bool:
    """Tell W&B what it was not told yet; whether that came to an end."""
    try:
        worker = start_worker(run_dir, mode)
        done = _ended(worker, time.monotonic() + seconds)
    except OSError as error:
        say(f"experiment tracking did not start: {error}")
        return False
    if not done or worker.returncode:
        ended = f"ended with {worker.returncode}" if done else f"did not finish within {seconds:g} s"
        say(f"experiment tracking {ended}. {_advice(run_dir)}")
    return done and not worker.returncode


def start_worker(run_dir: Path, mode: TrackingMode, *arguments: str) -> "subprocess.Popen[bytes]":
    """
    Raises:
        OSError: it cannot be started, or the run directory cannot be written.
    """
    log_of(run_dir).parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "trainer.tracking_worker", str(run_dir), "--mode", mode, *arguments]
    with open(log_of(run_dir), "ab") as log:
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=worker_environment(run_dir, mode),
            start_new_session=True,
        )


def worker_environment(
    run_dir: Path, mode: TrackingMode, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """No secret but W&B's own key, and that only where it is needed; no settings that the person has elsewhere."""
    passed = (*INHERITED, *INHERITED_ONLINE) if mode == "online" else INHERITED
    inherited = {name: environment[name] for name in passed if name in environment}
    own = (run_dir / "tracking").absolute()
    places = {f"WANDB_{name}_DIR": str(own / name.lower()) for name in ("CACHE", "DATA", "CONFIG")}
    return {**inherited, **places, "WANDB_ERROR_REPORTING": "false", "NETRC": os.devnull, "OMP_NUM_THREADS": "1"}


def _ended(worker: "subprocess.Popen[bytes]", until: float) -> bool:
    """Whether ``worker`` ended by itself, told to; one that does not is killed with all that it started."""
    assert worker.stdin is not None
    # A byte, not only the end of the pipe: forked loader workers hold its other handles.
    with contextlib.suppress(BrokenPipeError):
        worker.stdin.write(b"\n")
        worker.stdin.close()
    try:
        worker.wait(max(0.1, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        return False
    return True
