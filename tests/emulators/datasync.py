"""moto's DataSync, which only pretends, made to copy: a location of FSx for Lustre is a local directory.

moto itself goes one state further with each look at an execution, knows no FSx locations, no filters, counters and
results, and never fails. Here an execution copies when it comes to TRANSFERRING, and its description has them.
"""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from moto.core.exceptions import JsonRESTError
from moto.datasync.responses import DataSyncResponse

STAND_STILL = "PREPARING"


@dataclass
class Transfers:
    """``directories`` of the locations. ``fails_with`` is the result of the next executions, an error code.

    ``still`` keeps executions from going on; ``errors`` are what the next calls of an operation are answered with.
    """

    directories: dict[str, Path] = field(default_factory=dict)
    includes: dict[str, str] = field(default_factory=dict)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    results: dict[str, dict[str, str]] = field(default_factory=dict)
    errors: dict[str, list[JsonRESTError]] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    fails_with: str = ""
    still: bool = False
    one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def copy(self, backend: Any, execution: str) -> None:
        task = backend.tasks[backend.task_executions[execution].task_arn]
        source, target = (backend.locations[arn] for arn in (task.source_location_arn, task.destination_location_arn))
        folder = self.includes[execution].strip("/").removesuffix("/*").strip("/")
        moves = self._downloads(source.uri, target.arn, folder) if target.arn in self.directories else None
        moves = moves or self._uploads(source.arn, target.uri, folder)
        done = list(moves)
        sizes = {"BytesWritten": sum(done), "EstimatedBytesToTransfer": sum(done)}
        self.counters[execution] = {"FilesTransferred": len(done), "EstimatedFilesToTransfer": len(done), **sizes}

    def _downloads(self, uri: str, target: str, folder: str) -> Iterator[int]:
        bucket, _, prefix = uri.removeprefix("s3://").strip("/").partition("/")
        top = f"{prefix}/" if prefix else ""
        s3 = boto3.client("s3")
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{top}{folder}/"):
            for found in (one for one in page.get("Contents", ()) if not one["Key"].endswith("/")):
                file = self.directories[target] / found["Key"].removeprefix(top)
                file.parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(bucket, found["Key"], str(file))
                yield found["Size"]

    def _uploads(self, source: str, uri: str, folder: str) -> Iterator[int]:
        bucket, _, prefix = uri.removeprefix("s3://").strip("/").partition("/")
        root = self.directories[source]
        for file in sorted(path for path in (root / folder).rglob("*") if path.is_file()):
            key = "/".join(part for part in (prefix, file.relative_to(root).as_posix()) if part)
            boto3.client("s3").upload_file(str(file), bucket, key)
            yield file.stat().st_size


def install(transfers: Transfers, setting: Callable[[Any, str, Any], None]) -> None:
    """Have moto's DataSync do what ``transfers`` says; ``setting`` sets an attribute (``monkeypatch.setattr``)."""
    moto = {name: getattr(DataSyncResponse, name) for name in ("start_task_execution", "cancel_task_execution")}

    def answering(operation: str, answer: Callable[[DataSyncResponse, dict[str, Any]], str]) -> None:
        def method(response: DataSyncResponse) -> str:
            if waiting := transfers.errors.get(operation):
                raise waiting.pop(0)
            return answer(response, json.loads(response.body))

        setting(DataSyncResponse, operation, method)

    def location(response: DataSyncResponse, body: dict[str, Any]) -> str:
        uri = f"fsxl://{body['FsxFilesystemArn'].rsplit('/', 1)[-1]}{body.get('Subdirectory', '/')}"
        return json.dumps({"LocationArn": response.datasync_backend.create_location(uri, metadata={}, typ="FSXL")})

    def start(response: DataSyncResponse, body: dict[str, Any]) -> str:
        assert body["OverrideOptions"] == {"TaskQueueing": "DISABLED"}
        started: str = moto["start_task_execution"](response)
        execution = json.loads(started)["TaskExecutionArn"]
        transfers.includes[execution] = body["Includes"][0]["Value"]
        transfers.started.append(execution)
        return started

    def cancel(response: DataSyncResponse, body: dict[str, Any]) -> str:
        transfers.cancelled.append(body["TaskExecutionArn"])
        return str(moto["cancel_task_execution"](response))

    def describe(response: DataSyncResponse, body: dict[str, Any]) -> str:
        backend, execution = response.datasync_backend, body["TaskExecutionArn"]
        found = backend._get_task_execution(execution)
        with transfers.one_at_a_time:  # two that look at once would take an execution past its copying
            _go_on(transfers, backend, found, execution)
        include = [{"FilterType": "SIMPLE_PATTERN", "Value": transfers.includes[execution]}]
        counters = transfers.counters.get(execution, {})
        described = {"TaskExecutionArn": execution, "Status": found.status, "Includes": include, **counters}
        return json.dumps({**described, "Result": transfers.results.get(execution, {})})

    answering("create_location_fsx_lustre", location)
    answering("start_task_execution", start)
    answering("cancel_task_execution", cancel)
    answering("describe_task_execution", describe)


def _go_on(transfers: Transfers, backend: Any, execution: Any, arn: str) -> None:
    """One state further, as moto does it; the task is free once its execution has ended."""
    if execution.status in ("SUCCESS", "ERROR"):
        return
    if transfers.still:
        execution.status = STAND_STILL
        return
    execution.iterate_status()
    if execution.status == "TRANSFERRING" and transfers.fails_with:
        execution.status = "ERROR"
        transfers.results[arn] = {"ErrorCode": transfers.fails_with, "ErrorDetail": "the destination is full"}
    elif execution.status == "TRANSFERRING":
        transfers.copy(backend, arn)
    if execution.status in ("SUCCESS", "ERROR"):
        backend.tasks[execution.task_arn].status = "AVAILABLE"
