"""The ECS launcher: every node is a task on an EC2 instance of its own.

A gang is as many RunTask calls as it has nodes, each with a token of its own so that repeating it starts nothing anew.
``task.py`` has what is asked for, ``stops.py`` what ECS's answers mean, ``check.py`` what must be there.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from trainer.contract.errors import ContractError, Problem, problems_of
from trainer.contract.nodes import read_address
from training_assets.aws import client
from training_assets.launchers.base import Handle, LaunchFailed, LaunchSpec, Status
from training_assets.launchers.devices import refuse_misfit
from training_assets.launchers.ecs.stops import Task, kind_of, node_state
from training_assets.launchers.ecs.task import TAG, EcsSettings, run_request, tags_of, task_definition
from training_assets.launchers.environment import FLIGHT_RECORDER
from training_assets.launchers.gang import HiredGang, NodeState
from training_assets.launchers.hardware import instance_of
from training_assets.profiles.hardware import Hardware

if TYPE_CHECKING:
    from training_assets.profiles import Profile

POLL_SECONDS = 5.0
AT_ONCE = 100
"""Tasks in one DescribeTasks."""

SETTLE_SECONDS = 10.0
"""So long after its start a task may be missing in ListTasks, whose answers are only eventually consistent."""

STOP_PATIENCE = 600.0
"""Seconds until a task that was told to stop must have stopped: five times what its container is given."""

ATTEMPTS = 9
"""Of each call, with growing pauses of random length between them: less than two minutes in all."""


class EcsLauncher(HiredGang):
    """Nodes on the instances of one cluster. ``store`` is at ``mount`` there, or at the same path as here."""

    name = "ecs"

    def __init__(
        self,
        settings: EcsSettings,
        image: str,
        hardware: Hardware,
        store: Path,
        mount: Path | None = None,
        network_interface: str | None = None,
        poll_seconds: float = POLL_SECONDS,
        attempts: int = ATTEMPTS,
    ) -> None:
        self.settings, self.image, self.hardware, self.attempts = settings, image, hardware, attempts
        self.store, self.mount, self.network_interface = store, mount, network_interface
        self.poll_seconds = poll_seconds
        self.placement_seconds = hardware.placement_minutes * 60
        self._watched = WatchedTasks(self._describe, poll_seconds)

    @classmethod
    def of(cls, profile: "Profile") -> "EcsLauncher":
        """
        Raises:
            ContractError: names each field of the profile that is wrong.
        """
        where = f"profile {profile.name}"
        if profile.hardware is None or profile.image is None:
            given = {"hardware": profile.hardware, "image": profile.image}
            missing = [Problem(where, "nothing", "a mapping", field=name) for name, value in given.items() if not value]
            raise ContractError(f"{where} cannot launch", missing)
        try:
            settings = EcsSettings.model_validate(profile.backend)
        except ValidationError as error:
            raise ContractError(f"{where} cannot launch", problems_of(error, f"{where}, backend")) from None
        if settings.provider(profile.hardware) is None:
            expected = "the capacity provider of spot instances, or hardware.spot: false"
            problem = Problem(where, "nothing", expected, field="backend.spot_capacity_provider")
            raise ContractError(f"{where} cannot launch", [problem])
        instance_of(profile.hardware)
        image = profile.image.trainer
        return cls(settings, image, profile.hardware, profile.store, profile.mount, profile.network_interface)

    def check(self) -> Sequence[Problem]:
        from training_assets.launchers.ecs.check import problems

        return problems(self.settings, self.image, self.hardware)

    def launch(self, spec: LaunchSpec) -> Handle:
        if spec.launch is not None:
            refuse_misfit(spec.launch.model_copy(update={"num_nodes": 1}), instance_of(self.hardware).gpus)
        requests = self._requests(spec)
        (spec.attempt_dir / FLIGHT_RECORDER).mkdir(parents=True, exist_ok=True)
        self._register()
        started: dict[str, Task | None] = {}
        try:
            for request in requests:
                task = self._run(spec, request)
                started[task["taskArn"]] = task
        except (ContractError, LaunchFailed):
            self.stop(Handle(spec.attempt, spec, time.time(), tuple(started)))
            raise
        self._watched.learn(started)
        return Handle(spec.attempt, spec, time.time(), tuple(started))

    def attach(self, handle: Handle) -> Handle | None:
        """By the handle's own names; where it was kept before there were any, by what ECS has of this attempt."""
        if any(handle.nodes):
            return handle
        found = self._find(handle)
        while not found and time.time() - handle.started_at < SETTLE_SECONDS:
            time.sleep(1.0)
            found = self._find(handle)
        spec = handle.spec
        if not found and not any(read_address(spec.attempt_dir, node) for node in range(spec.nodes)):
            return None
        return Handle(spec.attempt, spec, handle.started_at, tuple(found.get(node, "") for node in range(spec.nodes)))

    def nodes(self, handle: Handle) -> Sequence[NodeState]:
        tasks = self._watched.of([arn for arn in handle.nodes if arn])
        seconds, spot = time.time() - handle.started_at, self.hardware.spot
        return [node_state(handle, node, tasks.get(arn), spot, seconds) for node, arn in enumerate(handle.nodes)]

    def stop(self, handle: Handle) -> None:
        """Also tasks of the attempt that the handle does not know: their RunTask's answer may have been lost."""
        arns = {arn for arn in handle.nodes if arn} | set(self._list(startedBy=handle.spec.attempt))
        # One that DescribeTasks does not know may have been started just now.
        going_on = [arn for arn, task in self._describe(arns).items() if not _is_over(task)]
        for arn in going_on:
            self._tell(arn)
        deadline = time.monotonic() + STOP_PATIENCE
        while left := [arn for arn, task in self._describe(going_on).items() if task and not _is_over(task)]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"ECS has not stopped within {STOP_PATIENCE:.0f} s: {', '.join(left)}")
            time.sleep(min(self.poll_seconds, 1.0))

    def _requests(self, spec: LaunchSpec) -> list[dict[str, Any]]:
        options = ("--echo", "--patience", f"{self.placement_seconds:g}")
        watch = ("--watch-spot",) if self.hardware.spot else ()
        command = ("python", *self.command(spec, *options, *watch))
        environment = self.environment(spec)
        family = self._definition["family"]
        return [
            run_request(self.settings, self.hardware, family, spec, node, command, environment)
            for node in range(spec.nodes)
        ]

    @cached_property
    def _definition(self) -> dict[str, Any]:
        return task_definition(self.settings, self.image, self.hardware, self.mount or self.store or Path())

    def _register(self) -> None:
        """Once for each content: whoever finds its family active has nothing to do."""
        from botocore.exceptions import BotoCoreError, ClientError

        family = self._definition["family"]
        try:
            if self._knows(family):
                return
            self._ecs.register_task_definition(**self._definition)
        except (BotoCoreError, ClientError) as error:
            raise _refusal(error, f"task definition {family}", self.hardware.spot) from error

    def _knows(self, family: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            answer = self._ecs.describe_task_definition(taskDefinition=family)
        except ClientError as error:
            if "describe task definition" in error.response["Error"].get("Message", ""):
                return False
            raise
        active: bool = answer["taskDefinition"]["status"] == "ACTIVE"
        return active

    def _run(self, spec: LaunchSpec, request: dict[str, Any]) -> Task:
        from botocore.exceptions import BotoCoreError, ClientError

        tags = {tag["key"]: tag["value"] for tag in request["tags"]}
        who = f"{spec.what}: node {tags[f'{TAG}:node']} of {spec.nodes}"
        try:
            answer = self._ecs.run_task(**request)
        except (BotoCoreError, ClientError) as error:
            raise _refusal(error, who, self.hardware.spot) from error
        if answer["failures"] or not answer["tasks"]:
            said = "; ".join(" ".join(map(str, failure.values())) for failure in answer["failures"])
            kind = kind_of(said, self.hardware.spot) or "capacity"
            raise LaunchFailed(Status("failed", None, f"{who} was not placed: {said or 'ECS does not say why'}", kind))
        task: Task = answer["tasks"][0]
        return task

    def _find(self, handle: Handle) -> dict[int, str]:
        """The attempt's tasks by node. ListTasks takes no other filter beside ``startedBy``, which finds those that
        are to run; stopped ones are among those of the family, for an hour."""
        arns = self._list(startedBy=handle.spec.attempt)
        arns += self._list(family=self._definition["family"], desiredStatus="STOPPED")
        found = {}
        for arn, task in self._describe(arns).items():
            tags = {tag["key"]: tag["value"] for tag in (task or {}).get("tags", [])}
            for node in range(handle.spec.nodes):
                if tags_of(handle.spec, node).items() <= tags.items():
                    found[node] = arn
        return found

    def _list(self, **filters: str) -> list[str]:
        pages = self._ecs.get_paginator("list_tasks").paginate(cluster=self.settings.cluster, **filters)
        return [arn for page in pages for arn in page["taskArns"]]

    def _describe(self, arns: Iterable[str]) -> dict[str, Task | None]:
        """None: ECS does not know it, not yet or not any more."""
        wanted = sorted(arns)
        known: dict[str, Task | None] = dict.fromkeys(wanted)
        for begin in range(0, len(wanted), AT_ONCE):
            some = wanted[begin : begin + AT_ONCE]
            answer = self._ecs.describe_tasks(cluster=self.settings.cluster, tasks=some, include=["TAGS"])
            known |= {task["taskArn"]: task for task in answer["tasks"]}
        return known

    def _tell(self, arn: str) -> None:
        from botocore.exceptions import ClientError

        try:
            self._ecs.stop_task(cluster=self.settings.cluster, task=arn, reason=f"{TAG}: the attempt has ended")
        except ClientError as error:
            if "not found" not in str(error):  # it has stopped, long ago
                raise

    @cached_property
    def _ecs(self) -> Any:
        return client("ecs", self.attempts, region=self.hardware.region)


class WatchedTasks:
    """What ``describe`` says of all tasks that somebody asks for, in common calls and not oftener than it is told.

    Many attempts watched by one process need no more calls than their tasks fill.
    """

    def __init__(self, describe: Callable[[Iterable[str]], dict[str, Task | None]], every: float) -> None:
        self._describe, self._every = describe, every
        self._known: dict[str, Task | None] = {}
        self._asked: dict[str, float] = {}
        self._refreshed = time.monotonic()
        self._lock = threading.Lock()

    def learn(self, tasks: dict[str, Task | None]) -> None:
        """What is known without asking: a RunTask answers with its task."""
        with self._lock:
            self._known |= tasks
            self._asked |= dict.fromkeys(tasks, time.monotonic())

    def of(self, arns: Sequence[str]) -> dict[str, Task | None]:
        with self._lock:
            now = time.monotonic()
            self._asked |= dict.fromkeys(arns, now)
            if now - self._refreshed >= self._every:
                self._forget(now)
                self._known |= self._describe(arn for arn in self._asked if not _is_over(self._known.get(arn)))
                self._refreshed = now
            elif unknown := [arn for arn in arns if arn not in self._known]:
                self._known |= self._describe(unknown)
            return {arn: self._known[arn] for arn in arns}

    def _forget(self, now: float) -> None:
        """What nobody asks for any more."""
        self._asked = {arn: at for arn, at in self._asked.items() if now - at < 20 * self._every}
        self._known = {arn: task for arn, task in self._known.items() if arn in self._asked}


def _is_over(task: Task | None) -> bool:
    return task is not None and task["lastStatus"] == "STOPPED"


def _refusal(error: Exception, who: str, spot: bool) -> Exception:
    """What it means that a call did not succeed: another try may help, or somebody has to change something."""
    from botocore.exceptions import ConnectionError as Unreachable
    from botocore.exceptions import HTTPClientError

    response = getattr(error, "response", {})
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if isinstance(error, Unreachable | HTTPClientError) or status >= 500 or "Throttl" in str(error):
        return LaunchFailed(
            Status("failed", None, f"{who} was not started, ECS cannot be reached: {error}", "capacity")
        )
    if (kind := kind_of(str(error), spot)) in ("capacity", "quota"):
        return LaunchFailed(Status("failed", None, f"{who} was not started: {error}", kind))
    return ContractError(f"ECS refuses {who}: {error}")
