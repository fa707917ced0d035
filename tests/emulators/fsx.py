"""FSx for Lustre's data repository operations inside moto. **It is not Lustre**: a file system is a local directory.

What is emulated: associations and tasks with their states, counters, reports, tokens, queueing and refusals, as the
API's reference describes them; import and export copy between the directory and moto's S3. What is not: POSIX
metadata, automatic import and export, HSM of the real kind, speed, IAM.

``hollow`` imports make files that have a size and no data, as after a real metadata import; only the stand-in for
``lfs`` (``Lfs``) fills them. Without it an import brings the content at once, as if every file had been read.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
from moto.core.exceptions import JsonRESTError
from moto.fsx.responses import FSxResponse

OPERATIONS = (
    "describe_file_systems",
    "create_data_repository_association",
    "describe_data_repository_associations",
    "delete_data_repository_association",
    "create_data_repository_task",
    "describe_data_repository_tasks",
    "cancel_data_repository_task",
)
RUNNING = ("PENDING", "EXECUTING", "CANCELING")


class Refused(JsonRESTError):
    """An error of the API's own."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message)
        self.code = status


@dataclass
class Task:
    described: dict[str, Any]
    cancelled: threading.Event = field(default_factory=threading.Event)

    def move(self, lifecycle: str) -> None:
        self.described["Lifecycle"] = lifecycle


@dataclass
class Lustre:
    """The file systems of one moto server, and how they behave.

    ``pending`` and ``file_seconds`` are what a task waits and what it takes for a file; ``creating`` is how long an
    association is not available yet. ``refuse_second`` has another task refused instead of queued. ``failing`` maps a
    file to the error code that a task reports for it. ``broken_link`` is why associations do not become available.
    ``errors`` are what the next calls of an operation are answered with; ``calls`` counts what was called.
    """

    directories: dict[str, Path] = field(default_factory=dict)
    hollow: bool = False
    pending: float = 0.05
    file_seconds: float = 0.0
    creating: float = 0.05
    refuse_second: bool = False
    broken_link: str = ""
    lifecycle: str = "AVAILABLE"
    failing: dict[str, str] = field(default_factory=dict)
    errors: dict[str, list[Refused]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    associations: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._one_at_a_time, self._asked = threading.Lock(), threading.Lock()

    def call(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        with self._asked:
            self.calls.append(operation)
            if waiting := self.errors.get(operation):
                raise waiting.pop(0)
            answer: dict[str, Any] = getattr(self, operation)(body)
            return answer

    def describe_file_systems(self, body: dict[str, Any]) -> dict[str, Any]:
        for name in body["FileSystemIds"]:
            self._known(name)
        lustre = {"MountName": "fsx", "DeploymentType": "PERSISTENT_2"}
        common = {"FileSystemType": "LUSTRE", "Lifecycle": self.lifecycle, "LustreConfiguration": lustre}
        return {"FileSystems": [{"FileSystemId": name, **common} for name in body["FileSystemIds"]]}

    def create_data_repository_association(self, body: dict[str, Any]) -> dict[str, Any]:
        self._known(body["FileSystemId"])
        if name := self.tokens.get(body["ClientRequestToken"]):
            return {"Association": self.associations[name]}
        path = body["FileSystemPath"].rstrip("/") + "/"
        for other in self.associations.values():
            taken = other["FileSystemPath"].rstrip("/") + "/"
            if path.startswith(taken) or taken.startswith(path):
                raise Refused("BadRequest", f"FileSystemPath {path} overlaps with {taken}")
        if len(self.associations) >= 8:
            raise Refused("ServiceLimitExceeded", "at most 8 data repository associations on a file system")
        name = f"dra-{uuid4().hex[:17]}"
        state = "CREATING" if self.creating else "AVAILABLE"
        kept = ("FileSystemId", "FileSystemPath", "DataRepositoryPath")
        made = {"AssociationId": name, "Lifecycle": state, "FailureDetails": {}, **{key: body[key] for key in kept}}
        self.associations[name], self.tokens[body["ClientRequestToken"]] = made, name
        threading.Timer(self.creating, self._available, [made]).start()
        return {"Association": made}

    def _available(self, association: dict[str, Any]) -> None:
        association["Lifecycle"] = "MISCONFIGURED" if self.broken_link else "AVAILABLE"
        if self.broken_link:
            association["FailureDetails"] = {"Message": self.broken_link}

    def describe_data_repository_associations(self, body: dict[str, Any]) -> dict[str, Any]:
        found = list(self.associations.values())
        if names := body.get("AssociationIds"):
            found = [one for one in found if one["AssociationId"] in names]
        return _page(found, body, "Associations", "AssociationId", 1)

    def delete_data_repository_association(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["AssociationId"] not in self.associations:
            raise Refused("DataRepositoryAssociationNotFound", body["AssociationId"])
        gone = self.associations.pop(body["AssociationId"])
        self.tokens = {token: name for token, name in self.tokens.items() if name != body["AssociationId"]}
        return {"AssociationId": gone["AssociationId"], "Lifecycle": "DELETING"}

    def create_data_repository_task(self, body: dict[str, Any]) -> dict[str, Any]:
        self._known(body["FileSystemId"])
        if not self.associations:
            raise Refused("BadRequest", "no data repository is linked to the file system")
        if name := self.tokens.get(body["ClientRequestToken"]):
            return {"DataRepositoryTask": self.tasks[name].described}
        busy = any(task.described["Lifecycle"] in RUNNING for task in self.tasks.values())
        if self.refuse_second and busy:
            raise Refused("DataRepositoryTaskExecuting", "another task is executing on the file system")
        name = f"task-{uuid4().hex[:17]}"
        kept = ("FileSystemId", "Type", "Paths", "Report", "ReleaseConfiguration")
        described = {
            "TaskId": name,
            "Lifecycle": "PENDING",
            "CreationTime": time.time(),
            "Status": {},
            "FailureDetails": {},
            **{key: body[key] for key in kept if key in body},
        }
        self.tasks[name], self.tokens[body["ClientRequestToken"]] = Task(described), name
        threading.Thread(target=self._execute, args=[self.tasks[name]], daemon=True).start()
        return {"DataRepositoryTask": described}

    def describe_data_repository_tasks(self, body: dict[str, Any]) -> dict[str, Any]:
        found = [task.described for task in self.tasks.values()]
        if names := body.get("TaskIds"):
            found = [one for one in found if one["TaskId"] in names]
            if not found:
                raise Refused("DataRepositoryTaskNotFound", ", ".join(names))
        return _page(found, body, "DataRepositoryTasks", "TaskId", 2)

    def cancel_data_repository_task(self, body: dict[str, Any]) -> dict[str, Any]:
        task = self.tasks.get(body["TaskId"])
        if task is None:
            raise Refused("DataRepositoryTaskNotFound", body["TaskId"])
        if task.described["Lifecycle"] not in RUNNING:
            raise Refused("DataRepositoryTaskEnded", body["TaskId"])
        task.move("CANCELING")
        task.cancelled.set()
        return {"TaskId": body["TaskId"], "Lifecycle": "CANCELING"}

    def restore(self, path: Path) -> None:
        """What ``lfs hsm_restore`` has done: the content of a hollow file, from the repository."""
        one = next(one for one in self.associations.values() if path.is_relative_to(self._directory(one)))
        relative = path.relative_to(self._directory(one)).as_posix()
        _s3().download_file(*_parts(f"{one['DataRepositoryPath'].rstrip('/')}/{relative}"), str(path))

    def _known(self, name: str) -> None:
        if name not in self.directories:
            raise Refused("FileSystemNotFound", f"File system '{name}' does not exist.")

    def _directory(self, association: dict[str, Any]) -> Path:
        return self.directories[association["FileSystemId"]] / association["FileSystemPath"].strip("/")

    def _execute(self, task: Task) -> None:
        with self._one_at_a_time:
            if task.cancelled.wait(self.pending):
                task.move("CANCELED")
                return
            task.move("EXECUTING")
            work = {"I": self._imports, "E": self._exports, "R": self._releases}[task.described["Type"][0]]
            try:
                steps = work(task.described)
            except Refused as error:
                task.described["FailureDetails"] = {"Message": error.message}
                task.move("FAILED")
            else:
                self._do(task, steps)

    def _do(self, task: Task, steps: dict[str, Callable[[], None]]) -> None:
        status = {"TotalCount": len(steps), "SucceededCount": 0, "FailedCount": 0}
        task.described["Status"], report = status, []
        for name, step in steps.items():
            if task.cancelled.wait(self.file_seconds):
                task.move("CANCELED")
                return
            if code := self.failing.get(Path(name).name):
                status["FailedCount"] += 1
                report.append(f"{name},failed,{code}")
            else:
                step()  # one that raises is a mistake in here: pytest shows it, and the task stands still
                status["SucceededCount"] += 1
        if report:
            self._report(task.described, report)
            task.described["FailureDetails"] = {"Message": f"{len(report)} files failed"}
        task.move("FAILED" if report else "SUCCEEDED")

    def _report(self, described: dict[str, Any], lines: list[str]) -> None:
        if described["Report"]["Enabled"]:
            name = "report.csv" if described["Type"].startswith("IMPORT") else "failures.csv"
            bucket, key = _parts(f"{described['Report']['Path']}/{described['TaskId']}/{name}")
            _s3().put_object(Bucket=bucket, Key=key, Body="\n".join(lines).encode())

    def _imports(self, described: dict[str, Any]) -> dict[str, Callable[[], None]]:
        steps: dict[str, Callable[[], None]] = {}
        for path in described["Paths"]:
            one = next((o for o in self.associations.values() if path.startswith(o["DataRepositoryPath"])), None)
            if one is None:
                raise Refused("BadRequest", f"PathNotFound: {path} is not linked")
            bucket, prefix = _parts(path)
            _, top = _parts(one["DataRepositoryPath"].rstrip("/") + "/")
            for page in _s3().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for found in page.get("Contents", ()):
                    target = self._directory(one) / found["Key"].removeprefix(top)
                    steps[found["Key"]] = _bind(self._import, bucket, found["Key"], found["Size"], target)
        return steps

    def _import(self, bucket: str, key: str, size: int, target: Path) -> None:
        (target if key.endswith("/") else target.parent).mkdir(parents=True, exist_ok=True)
        if key.endswith("/"):
            return
        if not self.hollow:
            _s3().download_file(bucket, key, str(target))
        elif not target.exists():
            with open(target, "wb") as stream:
                stream.truncate(size)

    def _exports(self, described: dict[str, Any]) -> dict[str, Callable[[], None]]:
        root, steps = self.directories[described["FileSystemId"]], {}
        for path in described["Paths"]:
            place = root / path.strip("/")
            one = next((o for o in self.associations.values() if place.is_relative_to(self._directory(o))), None)
            if one is None or not place.exists():
                raise Refused("BadRequest", f"PathNotFound: {path}")
            for file in sorted(p for p in (place.rglob("*") if place.is_dir() else [place]) if p.is_file()):
                relative = file.relative_to(self._directory(one)).as_posix()
                bucket, key = _parts(f"{one['DataRepositoryPath'].rstrip('/')}/{relative}")
                steps[relative] = _bind(_s3().upload_file, str(file), bucket, key)
        return steps

    def _releases(self, described: dict[str, Any]) -> dict[str, Callable[[], None]]:
        """Files whose very size is in the repository lose their content, if nobody used them for long enough."""
        days = described["ReleaseConfiguration"]["DurationSinceLastAccess"]["Value"]
        root, before, steps = self.directories[described["FileSystemId"]], time.time() - days * 86_400, {}
        for path in described["Paths"]:
            for file in sorted(p for p in (root / path.strip("/")).rglob("*") if p.is_file()):
                found = file.stat()
                used = max(found.st_atime, found.st_mtime)
                if used <= before and self._is_exported(file, found.st_size):
                    steps[str(file)] = _bind(_hollow_out, file, found.st_size)
        return steps

    def _is_exported(self, file: Path, size: int) -> bool:
        for one in self.associations.values():
            if file.is_relative_to(self._directory(one)):
                relative = file.relative_to(self._directory(one)).as_posix()
                bucket, key = _parts(f"{one['DataRepositoryPath'].rstrip('/')}/{relative}")
                found = _s3().list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", ())
                return any(o["Key"] == key and o["Size"] == size for o in found)
        return False


class Lfs:
    """A stand-in for the ``lfs`` command in ``directory``: it notes the files, and a thread restores them."""

    def __init__(self, lustre: Lustre, directory: Path, exit_code: int = 0) -> None:
        self.lustre, self.asked = lustre, directory / "asked"
        self.asked.touch()
        script = f"""#!/bin/sh
[ "$1" = hsm_restore ] || exit 2
shift
[ {exit_code} = 0 ] || exit {exit_code}
printf '%s\\n' "$@" >> "{self.asked}"
"""
        (directory / "lfs").write_text(script)
        (directory / "lfs").chmod(0o755)
        threading.Thread(target=self._restore, daemon=True).start()

    def _restore(self) -> None:
        with open(self.asked) as stream:
            while self.asked.exists():
                for line in stream:
                    self.lustre.restore(Path(line.rstrip("\n")))
                time.sleep(0.02)


def install(lustre: Lustre, setting: Callable[[Any, str, Any], None]) -> None:
    """Have moto's FSx answer with ``lustre``; ``setting`` sets an attribute (pytest's ``monkeypatch.setattr``)."""

    def answering(operation: str) -> Callable[[FSxResponse], str]:
        return lambda response: json.dumps(lustre.call(operation, json.loads(response.body)))

    for operation in OPERATIONS:
        setting(FSxResponse, operation, answering(operation))


def _page(found: list[dict[str, Any]], body: dict[str, Any], name: str, key: str, most: int) -> dict[str, Any]:
    """A page of at most ``most``, so that whoever does not follow ``NextToken`` is found out."""
    for rule in body.get("Filters", ()):
        if rule["Name"] == "file-system-id":
            found = [one for one in found if one["FileSystemId"] in rule["Values"]]
    names = [one[key] for one in found]
    begin = names.index(body["NextToken"]) if body.get("NextToken") else 0
    page = {name: found[begin : begin + most]}
    return page if begin + most >= len(found) else {**page, "NextToken": names[begin + most]}


def _bind(function: Callable[..., None], *arguments: Any) -> Callable[[], None]:
    return lambda: function(*arguments)


def _hollow_out(file: Path, size: int) -> None:
    os.truncate(file, 0)
    os.truncate(file, size)


def _parts(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _s3() -> Any:
    return boto3.client("s3")
