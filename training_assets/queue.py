"""The queue of a Dagster instance from outside: who works on it, putting a run into it, following a run to its end."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import dagster as dg
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, PARTITION_NAME_TAG
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from training_assets.in_process import Stopped, say
from training_assets.profiles import REPOSITORY
from training_assets.progress import line_of, show

ALIVE_SECONDS = 120.0
"""A daemon says that it lives every 30 s; Dagster itself believes it for half an hour."""
LOOK_SECONDS = 1.0
WORKSPACE = REPOSITORY / "workspace.yaml"


def daemon_is_alive(instance: dg.DagsterInstance) -> bool:
    """Whether a daemon starts the runs that wait in this instance's queue."""
    beat = instance.get_daemon_heartbeats().get(QueuedRunCoordinatorDaemon.daemon_type())
    return beat is not None and time.time() - beat.timestamp < ALIVE_SECONDS


def submit(request: dg.RunRequest, workspace: Path = WORKSPACE) -> str:
    """Put the run into the queue of the instance that ``DAGSTER_HOME`` names; its id.

    Raises:
        Stopped: Dagster did not take it; with what it said.
    """
    run_id = str(uuid4())
    tags = {**request.tags, **({PARTITION_NAME_TAG: request.partition_key} if request.partition_key else {})}
    dagster = str(Path(sys.executable).with_name("dagster"))
    command = [dagster, "job", "launch", "-w", str(workspace), "-j", str(request.job_name), "--run-id", run_id]
    command += ["--tags", json.dumps(tags), "--config-json", json.dumps(request.run_config)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise Stopped(f"Dagster did not take the run:\n{(done.stderr or done.stdout).strip()}")
    return run_id


def follow(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    """Show what the run says, until its end; the run as it ended.

    A run whose process was lost is followed into the run that Dagster puts in its place.
    """
    cursor, waits, ended = None, False, False
    while True:
        # The run before its messages: what it said before it ended is then among them.
        run = instance.get_run_by_id(run_id)
        if run is None:
            raise Stopped(f"run {run_id} was deleted")
        if run.status == dg.DagsterRunStatus.QUEUED and not waits:
            waits = True
            say(f"run {run_id} waits in the queue (python -m training_assets status says for what)")
        page = instance.get_records_for_run(run_id, cursor=cursor)
        cursor = page.cursor
        _show(record.event_log_entry for record in page.records)
        if again := run.tags.get(AUTO_RETRY_RUN_ID_TAG):
            say(f"the process of run {run_id} was lost: run {again} goes on in its place")
            run_id, cursor, waits, ended = again, None, False, False
        elif ended and not run.is_complete_and_waiting_to_retry:
            return run
        elif not page.has_more:
            # Seen twice: that a run will be tried again is written a moment after its end.
            ended = run.is_finished
            time.sleep(LOOK_SECONDS)


def run_with_tag(instance: dg.DagsterInstance, tag: tuple[str, str], seconds: float) -> str | None:
    """The id of the run with this tag, as soon as there is one; None: there was none in all this time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for run in instance.get_runs(dg.RunsFilter(tags=dict([tag])), limit=1):
            return run.run_id
        time.sleep(LOOK_SECONDS)
    return None


def _show(entries: Iterator[dg.EventLogEntry]) -> None:
    for entry in entries:
        if text := line_of(entry.dagster_event, entry.step_key, int(entry.level), entry.user_message):
            show(text)
