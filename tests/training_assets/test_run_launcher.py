"""A run whose process is gone is noticed, whoever started it."""

import subprocess
import sys
import time
from collections.abc import Iterator

import dagster as dg
import psutil
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus

from training_assets.run_launcher import WatchedRunLauncher, _is_alive


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    launcher = {"module": "training_assets.run_launcher", "class": "WatchedRunLauncher"}
    with dg.instance_for_test(overrides={"run_launcher": launcher}) as instance:
        yield instance


def health(instance: dg.DagsterInstance, run: dg.DagsterRun) -> WorkerStatus:
    launcher = instance.run_launcher
    assert isinstance(launcher, WatchedRunLauncher)
    assert launcher.supports_check_run_worker_health
    return launcher.check_run_worker_health(run).status


@dg.job
def nothing() -> None:
    pass


def test_a_run_is_lost_once_the_process_that_it_named_is_gone(instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(nothing)
    assert health(instance, run) == WorkerStatus.RUNNING, "it has not said yet which process it is"
    worker = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    instance.report_engine_event("started", run, EngineEventData.in_process(worker.pid))
    assert health(instance, run) == WorkerStatus.RUNNING
    worker.kill()
    while psutil.Process(worker.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert health(instance, run) == WorkerStatus.FAILED, "dead, and nobody has asked for its exit code yet"
    worker.wait()
    assert health(instance, run) == WorkerStatus.FAILED


def test_another_process_with_the_same_id_is_not_the_runs() -> None:
    ours = psutil.Process()
    assert _is_alive(ours.pid, ours.create_time() + 5)
    assert not _is_alive(ours.pid, ours.create_time() - 3600)
