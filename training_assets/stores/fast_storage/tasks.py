"""FSx's data repository tasks: started once, waited for, stopped with the step that wants them.

A task runs on FSx's side and outlives whoever asked for it. So nothing is kept here: who comes back finds the task by
what it does.
"""

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.contract.errors import Problem
from training_assets.stores.fast_storage.aws import asking, client, code_of, read_object, token
from training_assets.stores.fast_storage.base import SHOWN, Amount, Progress, StagingError, StorageUnavailable

IMPORT, EXPORT, RELEASE = "IMPORT_METADATA_FROM_REPOSITORY", "EXPORT_TO_REPOSITORY", "RELEASE_DATA_FROM_FILESYSTEM"
UNDER_WAY = ("PENDING", "EXECUTING")
STOPPING = "CANCELING"
PATIENCE = 3600.0
"""Seconds for which another task on the file system may keep ours from starting."""

WORK = {IMPORT: "metadata imported", EXPORT: "exported", RELEASE: "released"}
ADVICE = {
    "S3AccessDenied": "Let FSx read and write the bucket and use its key (bucket policy, KMS key policy).",
    "S3FileDeleted": "An object went while it was imported: nobody may write to a complete delivery.",
    "FileSizeTooLarge": "S3 takes objects of up to 5 TiB.",
    "PathNotFound": "The path is not there: is the association's directory right?",
}


@dataclass(frozen=True)
class Tasks:
    """The tasks of one file system; ``poll_seconds`` lie between two looks at one."""

    file_system_id: str
    poll_seconds: float = 5.0

    def run(
        self, kind: str, paths: Sequence[str], reports: str | None, progress: Progress, **settings: Mapping[str, Any]
    ) -> None:
        """Have a task of this ``kind`` done to ``paths``; ``reports`` is the URI below which FSx says what failed.

        Raises:
            StagingError, StorageUnavailable
        """
        task = self._under_way_or_new(kind, paths, reports, progress, settings)
        try:
            self._wait(task["TaskId"], progress)
        except (StagingError, StorageUnavailable):
            raise  # it has ended, or cannot be asked and goes on: the next try finds it
        except BaseException:
            self._cancel(task["TaskId"])
            raise

    def _under_way_or_new(
        self, kind: str, paths: Sequence[str], reports: str | None, progress: Progress, settings: Mapping[str, Any]
    ) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            alike = self._alike(kind, paths)
            if under_way := next((task for task in alike if task["Lifecycle"] in UNDER_WAY), None):
                return under_way
            # Who lists the same tasks has the same token, and FSx gives all of them the same new task. Once that has
            # ended it is on the list, and the token is another one: or FSx would answer with the task that ended.
            new = token(self.file_system_id, kind, list(paths), alike[0]["TaskId"] if alike else None)
            if created := self._create(kind, paths, reports, new, settings):
                return created
            progress(Amount("waiting for another task on the file system", 0))
            time.sleep(self.poll_seconds)
        raise StorageUnavailable(f"for {PATIENCE:.0f} s another task kept ours from starting on {self.file_system_id}")

    def _alike(self, kind: str, paths: Sequence[str]) -> list[dict[str, Any]]:
        """Every task that does the same, the one that was created last first."""
        found = [task for task in self._all() if task["Type"] == kind and _alike(task.get("Paths", ()), paths)]
        return sorted(found, key=lambda task: str(task["CreationTime"]), reverse=True)

    def _all(self) -> Iterator[dict[str, Any]]:
        asked: dict[str, Any] = {"Filters": [{"Name": "file-system-id", "Values": [self.file_system_id]}]}
        while True:
            with asking(f"fsx:DescribeDataRepositoryTasks of {self.file_system_id}"):
                page = self._client.describe_data_repository_tasks(**asked)
            yield from page["DataRepositoryTasks"]
            if not page.get("NextToken"):
                return
            asked["NextToken"] = page["NextToken"]

    def _create(
        self, kind: str, paths: Sequence[str], reports: str | None, new: str, settings: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """The task; None while FSx does another one on this file system first."""
        from botocore.exceptions import ClientError

        report: dict[str, Any] = {"Enabled": reports is not None}
        if reports is not None:
            report |= {"Path": reports, "Format": "REPORT_CSV_20191124", "Scope": "FAILED_FILES_ONLY"}
        with asking(f"fsx:CreateDataRepositoryTask {kind} of {', '.join(paths)}"):
            try:
                created = self._client.create_data_repository_task(
                    FileSystemId=self.file_system_id,
                    Type=kind,
                    Paths=list(paths),
                    Report=report,
                    ClientRequestToken=new,
                    **settings,
                )
            except ClientError as error:
                if code_of(error) == "DataRepositoryTaskExecuting":
                    return None
                raise
        return dict(created["DataRepositoryTask"])

    def _wait(self, task_id: str, progress: Progress) -> None:
        while True:
            with asking(f"fsx:DescribeDataRepositoryTasks {task_id}"):
                (task,) = self._client.describe_data_repository_tasks(TaskIds=[task_id])["DataRepositoryTasks"]
            status = task.get("Status", {})
            done = status.get("SucceededCount", 0) + status.get("FailedCount", 0)
            progress(Amount(WORK[task["Type"]], done, status.get("TotalCount")))
            if task["Lifecycle"] not in (*UNDER_WAY, STOPPING):
                return _refuse_unsuccessful(task)
            time.sleep(self.poll_seconds)

    def _cancel(self, task_id: str) -> None:
        with contextlib.suppress(StagingError, StorageUnavailable), asking(f"fsx:CancelDataRepositoryTask {task_id}"):
            self._client.cancel_data_repository_task(TaskId=task_id)

    @functools.cached_property
    def _client(self) -> Any:
        return client("fsx")


def _alike(paths: Sequence[str], others: Sequence[str]) -> bool:
    return sorted(path.strip("/") for path in paths) == sorted(path.strip("/") for path in others)


def _refuse_unsuccessful(task: Mapping[str, Any]) -> None:
    what = f"{task['TaskId']} ({task['Type']} of {', '.join(task.get('Paths', ()))})"
    failed = task.get("Status", {}).get("FailedCount", 0)
    if task["Lifecycle"] == "SUCCEEDED" and not failed:
        return
    if task["Lifecycle"] == "CANCELED":
        raise StorageUnavailable(f"data repository task {what} was cancelled by somebody else")
    message = task.get("FailureDetails", {}).get("Message", "no details")
    total = task.get("Status", {}).get("TotalCount", "?")
    problems = [Problem(what, f"{task['Lifecycle']}: {message}; {failed} of {total} files failed", "SUCCEEDED")]
    rows, where = _report_of(task)
    problems += [Problem(f"{where} line {number}", row, "no failed file") for number, row in enumerate(rows, start=1)]
    advice = next((text for code, text in ADVICE.items() if any(code in row for row in (message, *rows))), "")
    raise StagingError("a data repository task failed", problems, advice or f"FSx's report: {where or 'none'}")


def _report_of(task: Mapping[str, Any]) -> tuple[list[str], str]:
    """The first lines of the task's report and its URI; none where it cannot be read."""
    report = task.get("Report", {})
    if not report.get("Enabled"):
        return [], ""
    name = "report.csv" if task["Type"] == IMPORT else "failures.csv"
    uri = f"{report['Path'].rstrip('/')}/{task['TaskId']}/{name}"
    with contextlib.suppress(StagingError, StorageUnavailable), asking(f"s3:GetObject {uri}"):
        return read_object(uri).splitlines()[:SHOWN], uri
    return [], uri
