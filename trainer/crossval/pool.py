"""Trains the runs of a cross-validation: one after the other, or one on each device at a time.

Each run is ``python -m trainer train`` in a process of its own, so that neither what a training leaves behind nor its
end touches the next. A run on several devices forks its ranks itself (``ddp_fork``).
"""

import argparse
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from trainer.contract.attempts import Heartbeat, attempt_dir, failure_path, read_beat
from trainer.contract.cross_validation import CrossValidationPlan, PlannedRun
from trainer.contract.errors import ContractError, Problem
from trainer.contract.results import FAILURE_FILE, RESULT_FILE, Failure
from trainer.contract.run_infos import note_failure, run_info
from trainer.contract.train_config import ENVIRONMENT_PREFIX, Launch, TrainConfig
from trainer.crossval.start import fold_directory
from trainer.process import die_with_parent
from trainer.reporting import Reporter

TICK = 0.2
OF_RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR",
            "MASTER_PORT")  # fmt: skip
NOT_FOR_RUNS = ("TORCHELASTIC_", "DAGSTER_PIPES_", ENVIRONMENT_PREFIX)
"""Variables by their beginnings: the recipe in the directory has the environment's overrides already."""

Overrides = tuple[str, ...]


class Pool:
    """Trains runs of ``plan`` in ``directory``; afterwards ``failures`` has those without a result, by name.

    SIGTERM and Ctrl-C are passed on to the runs at work, which save and stop, and no other is begun: ``stopped``.
    """

    def __init__(
        self,
        directory: Path,
        plan: CrossValidationPlan,
        config: TrainConfig,
        arguments: argparse.Namespace,
        report: Reporter,
    ) -> None:
        self.directory, self.plan, self.config, self.report = directory, plan, config, report
        self.arguments, self.devices = arguments, devices_of(config)
        self.failures: dict[str, tuple[int, Failure]] = {}
        self.stopped = False
        self._heart = Heartbeat(attempt_dir(directory), 0)
        self._lock = threading.Lock()
        self._at_work: set[subprocess.Popen[str]] = set()

    def train(self, runs: Sequence[PlannedRun]) -> None:
        """Train each of ``runs`` that has no result yet; one that fails does not end the others."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        free: queue.SimpleQueue[Overrides] = queue.SimpleQueue()
        for overrides in self.devices:
            free.put(overrides)
        with ThreadPoolExecutor(len(self.devices)) as threads:
            futures = [threads.submit(self._train, run, free) for run in runs]
            while wait(futures, TICK).not_done:
                self._beat(runs)
        for future in futures:
            future.result()

    def _train(self, run: PlannedRun, free: "queue.SimpleQueue[Overrides]") -> None:
        info = run_info(self.directory, self.plan, run)
        if info is not None and info.failure is None:
            self.report.info(f"{run.run_name} has its result already")
            return
        overrides = free.get()
        try:
            code = self._run(run, overrides)
        finally:
            free.put(overrides)
        if code is not None:
            self._note(run, code)

    def _run(self, run: PlannedRun, overrides: Overrides) -> int | None:
        """Train ``run`` in a process; its exit code, None where it was not begun."""
        with self._lock:
            if self.stopped:
                return None
            place = self.directory / self.plan.directory_of(run)
            for earlier in (failure_path(place), place / FAILURE_FILE):
                earlier.unlink(missing_ok=True)
            self.report.info(f"training {run.run_name} (fold {run.fold}, seed {run.seed})")
            process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                [sys.executable, "-m", "trainer", *self._command(run, overrides)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=_environment(),
                # Ctrl-C reaches the whole group: this process passes it on as what a training knows.
                process_group=0,
                preexec_fn=die_with_parent,
            )
            self._at_work.add(process)
        assert process.stdout is not None
        for line in process.stdout:
            self.report.line(f"[{run.key}] {line.rstrip()}")
        code = process.wait()
        with self._lock:
            self._at_work.discard(process)
        return code

    def _command(self, run: PlannedRun, overrides: Overrides) -> Iterator[str]:
        place, identity = self.directory / self.plan.directory_of(run), self.plan.identity_of(run)
        yield from (
            "train",
            str(self.directory / "train.yaml"),
            "--data",
            str(fold_directory(self.directory, run.fold)),
        )
        yield from ("--run-dir", str(place), "--run-id", run.run_id, "--name", run.run_name)
        yield from ("--job-type", self.plan.name, *(("--group", identity.group) if identity.group else ()))
        yield from _passed_on(self.arguments, place.name)
        for override in (f"seed={run.seed}", *overrides):
            yield from ("--set", override)

    def _note(self, run: PlannedRun, code: int) -> None:
        place = self.directory / self.plan.directory_of(run)
        if code == 0 and (place / RESULT_FILE).is_file():
            (place / FAILURE_FILE).unlink(missing_ok=True)  # an earlier attempt's
        elif not self.stopped:
            failure = _failure(place, code)
            self.failures[run.run_name] = code if code > 0 else 1, failure
            note_failure(self.directory, self.plan, run, failure)
            self.report.info(f"{run.run_name} failed ({failure.kind}): {failure.message.splitlines()[-1]}")

    def _beat(self, runs: Sequence[PlannedRun]) -> None:
        """Whoever watches this process for progress sees the steps of all its runs together."""
        places = [self.directory / self.plan.directory_of(run) for run in runs]
        steps = sum(beat.finished for place in places if (beat := read_beat(attempt_dir(place), 0)))
        self._heart.beat(steps, steps)

    def _stop(self, *_: object) -> None:
        # Without the lock, which the main thread may hold: a run that is being started hears it once it is known.
        self.stopped = True
        threading.Thread(target=self._tell, daemon=True).start()

    def _tell(self) -> None:
        with self._lock:
            for process in self._at_work:
                process.terminate()


def devices_of(config: TrainConfig) -> list[Overrides]:
    """What runs at the same time are to be overridden with: one each on a device of its own, or a single run on all.

    Raises:
        ContractError: several nodes, or ranks of one run on several devices beside other runs.
    """
    from trainer.engine.fork import forks_of, gpus

    launch = config.launch
    if config.cross_validation.parallel == "serial":
        forks_of(launch)
        return [()]
    _refuse_ranks(launch)
    there = 0 if launch.accelerator == "cpu" else gpus()
    if not there:
        return [("launch.devices=1", "launch.accelerator=cpu")] * (launch.processes or 1)
    indices = launch.devices if isinstance(launch.devices, tuple) else range(launch.processes or there)
    return [(f"launch.devices=[{index}]",) for index in indices]


def _refuse_ranks(launch: Launch) -> None:
    problems = []
    if launch.strategy != "auto":
        expected = "auto: each run has one device to itself, so there are no ranks to distribute to"
        problems.append(Problem("recipe", launch.strategy, expected, field="launch.strategy"))
    if launch.num_nodes > 1:
        problems.append(
            Problem("recipe", str(launch.num_nodes), "1: the devices of this host", field="launch.num_nodes")
        )
    if problems:
        advice = "Set launch.strategy=auto; or cross_validation.parallel=serial, and each run has all devices."
        raise ContractError("runs in parallel cannot be distributed", problems, advice)


def refuse_torchrun(environment: Mapping[str, str]) -> None:
    """
    Raises:
        ContractError: torchrun started this process as one of several ranks.
    """
    if int(environment.get("WORLD_SIZE", 1)) > 1:
        found = f"one of {environment['WORLD_SIZE']} ranks of torchrun"
        problem = Problem("trainer crossval", found, "a process that starts the ranks of its runs itself")
        raise ContractError("a cross-validation is started once", [problem], "Set launch.strategy=ddp_fork.")


def _passed_on(given: argparse.Namespace, place: str) -> Iterator[str]:
    """The arguments of a training that its cross-validation was given."""
    for option in ("warm_start", "profile", "history"):
        if (value := getattr(given, option)) is not None:
            yield from (f"--{option.replace('_', '-')}", str(value))
    if given.no_warm_start:
        yield "--no-warm-start"
    if given.copy_to is not None:
        yield from ("--copy-to", f"{given.copy_to.rstrip('/')}/{place}")


def _environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if name not in OF_RANKS and not name.startswith(NOT_FOR_RUNS)
    }


def _failure(place: Path, code: int) -> Failure:
    """What a run that ended with ``code`` said of it, or what the code says."""
    for path in (failure_path(place), place / FAILURE_FILE):
        if path.is_file():
            return Failure.model_validate_json(path.read_bytes())
    if code < 0:
        message = f"the process was ended by {signal.Signals(-code).name}"
        advice = "Often the kernel's out-of-memory killer." if code == -signal.SIGKILL else ""
        return Failure(kind="crash", message=message, rank=0, advice=advice)
    return Failure(kind="crash", message=f"the process ended with exit code {code} and no result", rank=0)
