"""AWS DataSync: a task of the infrastructure copies between S3 and the fast storage, one delivery at a time."""

import contextlib
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.contract.errors import Problem
from training_assets.profiles.staging import DataSyncStaging, DataSyncTask
from training_assets.stores.fast_storage.aws import asking, client, code_of, objects_below
from training_assets.stores.fast_storage.base import (
    Amount,
    Progress,
    StagingError,
    StorageUnavailable,
    lacking,
    refuse_lacking,
    silent,
)
from training_assets.stores.fast_storage.brought import Brought

ENDED = ("SUCCESS", "ERROR")
PATIENCE = 3600.0
"""Seconds for which another execution of the task may keep ours from starting."""
SPECIAL = "|*\\"
"""Characters with a meaning in DataSync's patterns."""


class DataSync:
    """One task for each direction; a task has one execution at a time."""

    def __init__(self, settings: DataSyncStaging, poll_seconds: float = 5.0) -> None:
        self.settings, self.poll_seconds = settings, poll_seconds

    def brings(self, source: str) -> bool:
        return self.settings.inbound.holds(source)

    def bring(self, source: str, progress: Progress = silent) -> Path:
        task, place = self.settings.inbound, self.settings.inbound.place_of(source)
        wanted = objects_below(source)
        # An execution that was under way may have listed the source before the last objects came.
        for _ in range(2):
            self._run(task, place, progress)
            if not (missing := lacking(wanted, place)):
                break
        refuse_lacking(source, missing, place)
        Brought(task.directory).note(place)
        return place

    def export(self, place: Path, progress: Progress = silent) -> str | None:
        task = self.settings.outbound
        if task is None or not task.covers(place):
            return None
        self._run(task, place, progress)
        return task.uri_of(place)

    def release(self, unused_days: int, progress: Progress = silent) -> None:
        gone = Brought(self.settings.inbound.directory).remove_unused(unused_days)
        progress(Amount("deliveries taken away, files", len(gone), len(gone)))

    def _run(self, task: DataSyncTask, place: Path, progress: Progress) -> None:
        include = _pattern(task, place)
        execution = self._started(task, include, progress)
        try:
            self._wait(execution, progress)
        except (StagingError, StorageUnavailable):
            raise
        except BaseException:
            self._cancel(execution)
            raise

    def _started(self, task: DataSyncTask, include: str, progress: Progress) -> str:
        """The execution that copies ``include``: the one under way, or a new one once the task is free."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            current = self._current(task)
            if current is None:
                if execution := self._start(task, include):
                    return execution
            elif _includes(current) == include:
                return str(current["TaskExecutionArn"])
            progress(Amount("waiting for another execution of the DataSync task", 0))
            time.sleep(self.poll_seconds)
        raise StorageUnavailable(f"for {PATIENCE:.0f} s another execution kept ours from starting on {task.task_arn}")

    def _current(self, task: DataSyncTask) -> dict[str, Any] | None:
        """The execution under way, if there is one."""
        with asking(f"datasync:DescribeTask {task.task_arn}"):
            arn = self._client.describe_task(TaskArn=task.task_arn).get("CurrentTaskExecutionArn")
        found = self._described(arn) if arn else None
        return None if found is None or found["Status"] in ENDED else found

    def _start(self, task: DataSyncTask, include: str) -> str | None:
        """A new execution; None where one was started meanwhile (the call has no idempotency token)."""
        from botocore.exceptions import ClientError

        with asking(f"datasync:StartTaskExecution {task.task_arn}"):
            try:
                started = self._client.start_task_execution(
                    TaskArn=task.task_arn,
                    Includes=[{"FilterType": "SIMPLE_PATTERN", "Value": include}],
                    # Not queued: an answer that got lost must not leave a second execution behind the first.
                    OverrideOptions={"TaskQueueing": "DISABLED"},
                )
            except ClientError as error:
                if code_of(error) == "InvalidRequestException" and self._current(task) is not None:
                    return None
                raise
        return str(started["TaskExecutionArn"])

    def _wait(self, execution: str, progress: Progress) -> None:
        while True:
            found = self._described(execution)
            progress(
                Amount(
                    f"DataSync {found['Status'].lower()}",
                    found.get("FilesTransferred", 0),
                    found.get("EstimatedFilesToTransfer"),
                    found.get("BytesWritten", 0),
                    found.get("EstimatedBytesToTransfer"),
                )
            )
            if found["Status"] in ENDED:
                return _refuse_unsuccessful(execution, found)
            time.sleep(self.poll_seconds)

    def _described(self, execution: str) -> dict[str, Any]:
        with asking(f"datasync:DescribeTaskExecution {execution}"):
            return dict(self._client.describe_task_execution(TaskExecutionArn=execution))

    def _cancel(self, execution: str) -> None:
        with (
            contextlib.suppress(StagingError, StorageUnavailable),
            asking(f"datasync:CancelTaskExecution {execution}"),
        ):
            self._client.cancel_task_execution(TaskExecutionArn=execution)

    @functools.cached_property
    def _client(self) -> Any:
        return client("datasync")


def _pattern(task: DataSyncTask, place: Path) -> str:
    """All of ``place``, as the task's locations see it.

    Raises:
        StagingError: its path cannot be said in DataSync's patterns.
    """
    relative = place.resolve().relative_to(task.directory.resolve()).as_posix()
    if any(character in relative for character in SPECIAL):
        problem = Problem(str(place), repr(relative), f"a path without {' '.join(SPECIAL)}")
        raise StagingError("DataSync cannot copy this path", [problem], "Deliver it under another name.")
    return f"/{relative}/*"


def _includes(execution: Mapping[str, Any]) -> str | None:
    rules = execution.get("Includes") or [{}]
    value = rules[0].get("Value")
    return None if value is None else str(value)


def _refuse_unsuccessful(execution: str, found: Mapping[str, Any]) -> None:
    failed = found.get("FilesFailed", {})
    lost = sum(failed.values()) if isinstance(failed, Mapping) else 0
    if found["Status"] == "SUCCESS" and not lost:
        return
    result = found.get("Result", {})
    said = ": ".join(str(result[name]) for name in ("ErrorCode", "ErrorDetail") if result.get(name))
    problem = Problem(execution, f"{found['Status']}, {said or 'no details'}; {lost} files failed", "SUCCESS")
    raise StagingError("a DataSync execution failed", [problem], "The task's log group names the files.")
