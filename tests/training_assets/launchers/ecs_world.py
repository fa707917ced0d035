"""A cluster for tests: ministack, a Docker API that executes its tasks, and a proxy that misbehaves as told."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.emulators.docker_api import Container, DockerApi
from tests.emulators.faults import FaultyProxy
from tests.emulators.ministack import ministack
from trainer.contract.attempts import ATTEMPT_VARIABLE
from trainer.contract.nodes import ADDRESS_VARIABLE, NODE_VARIABLE
from trainer.contract.train_config import Launch
from training_assets.aws import client
from training_assets.launchers.base import Handle, LaunchSpec, Status
from training_assets.launchers.ecs.launcher import EcsLauncher
from training_assets.launchers.ecs.task import EcsSettings
from training_assets.launchers.processes import marked
from training_assets.profiles.hardware import Hardware

HERE, ROOT = Path(__file__).parent, Path(__file__).resolve().parents[3]
REGION, ACCOUNT = "us-east-1", "000000000000"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/training-assets/trainer@sha256:{'a' * 64}"
ON_THIS_MACHINE = {"PYTHONPATH": f"{HERE}:{ROOT}", ADDRESS_VARIABLE: "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
"""What tells nodes that all of them are here."""

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
TWO = Launch(accelerator="cpu", devices=1, num_nodes=2, strategy="ddp_fork")
"""Two nodes whose command starts no ranks."""

SETTINGS = EcsSettings(
    cluster="training-assets",
    execution_role=f"arn:aws:iam::{ACCOUNT}:role/training-assets-execution",
    task_role=f"arn:aws:iam::{ACCOUNT}:role/training-assets-trainer",
    capacity_provider="training-assets-cpu",
    spot_capacity_provider="training-assets-cpu-spot",
    zone="us-east-1a",
    log_group="/training-assets/trainer",
)
HARDWARE = Hardware(instance_type="m5.large", placement_minutes=1)


@dataclass
class World:
    """A cluster, and a place for one case. ``aws`` asks the emulator itself, past the proxy.

    ``recipe`` and ``delivery``: what a real training trains.
    """

    place: Path
    docker: DockerApi
    proxy: FaultyProxy
    emulator: str
    recipe: Path = Path()
    delivery: Path = Path()
    specs: list[LaunchSpec] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.launcher = self.another_launcher()

    def another_launcher(self, **hardware: object) -> EcsLauncher:
        return launcher_at(self.place, hardware=HARDWARE.model_copy(update=hardware))

    def spec(self, how: str = "finish", launch: Launch = TWO, **other: Any) -> LaunchSpec:
        spec = spec_at(self.place, f"attempt-{uuid4().hex[:12]}", how, launch, **other)
        self.specs.append(spec)
        return spec

    def aws(self, service: str = "ecs") -> Any:
        import boto3

        return boto3.client(service, region_name=REGION, endpoint_url=self.emulator)

    def tasks(self, spec: LaunchSpec, *statuses: str) -> list[dict[str, Any]]:
        """ECS's own list of the attempt's tasks."""
        ecs, arns = self.aws(), []
        for desired in ("RUNNING", "STOPPED"):
            arns += ecs.list_tasks(cluster=SETTINGS.cluster, startedBy=spec.attempt, desiredStatus=desired)["taskArns"]
        tasks = ecs.describe_tasks(cluster=SETTINGS.cluster, tasks=arns)["tasks"] if arns else []
        return [task for task in tasks if not statuses or task["lastStatus"] in statuses]

    def container(self, spec: LaunchSpec, node: int) -> Container:
        own = {ATTEMPT_VARIABLE: spec.attempt, NODE_VARIABLE: str(node)}
        return next(one for one in list(self.docker.containers.values()) if own.items() <= one.environment.items())

    def until_at_work(self, handle: Handle) -> None:
        nodes = range(handle.spec.nodes)
        until(lambda: all((self.place / f"starts-{node}").exists() for node in nodes))
        until(lambda: self.launcher.poll(handle) == Status("running"))

    def finish(self) -> None:
        (self.place / "finish").touch()

    def end(self, handle: Handle) -> Status:
        """How it ended, and stopped as a step would."""
        until(lambda: self.launcher.poll(handle).state != "running")
        status = self.launcher.poll(handle)
        self.launcher.stop(handle)
        return status

    def stopped_as(self, code: str, reason: str, exit_code: int | None = None, word: str = "") -> None:
        """Have ECS say so of tasks that stop; ministack itself gives every one an exit code."""

        def change(_: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
            for task in answer["tasks"]:
                if task["lastStatus"] == "STOPPED" and task["stopCode"] == "EssentialContainerExited":
                    task |= {"stopCode": code, "stoppedReason": reason}
                    task["containers"][0].pop("exitCode", None)
                    task["containers"][0] |= {"exitCode": exit_code} if exit_code is not None else {}
                    task["containers"][0] |= {"reason": word} if word else {}
            return answer

        self.proxy.change("DescribeTasks", change)

    def assert_nothing_is_left(self) -> None:
        for spec in self.specs:
            left = self.tasks(spec, "PROVISIONING", "PENDING", "ACTIVATING", "RUNNING")
            assert not left, f"tasks still there: {[task['taskArn'] for task in left]}"
            until(lambda spec=spec: not marked((ATTEMPT_VARIABLE, spec.attempt)), 10)  # type: ignore[misc]

    def assert_each_node_started_once(self, spec: LaunchSpec) -> None:
        assert len(self.tasks(spec)) == spec.nodes
        for node in range(spec.nodes):
            assert len((self.place / f"starts-{node}").read_text().split()) == 1, f"node {node} was started twice"


def launcher_at(
    place: Path,
    settings: EcsSettings = SETTINGS,
    hardware: Hardware = HARDWARE,
    image: str = IMAGE,
    **other: Any,
) -> EcsLauncher:
    return EcsLauncher(settings, image, hardware, **{"store": place, "poll_seconds": 0.2, **other})


def spec_at(place: Path, attempt: str, how: str = "finish", launch: Launch = TWO, **other: Any) -> LaunchSpec:
    given = {"module": "working", "arguments": (how, str(place)), **other}
    given["environment"] = {**ON_THIS_MACHINE, **given.get("environment", {})}
    return LaunchSpec(run_dir=place, attempt=attempt, launch=launch, project="tests", **given)


class Emulated:
    """The parts that many cases share."""

    def __init__(self, docker: DockerApi, emulator: str) -> None:
        self.docker, self.emulator = docker, emulator

    @contextlib.contextmanager
    def world(self, place: Path, **given: Any) -> Iterator[World]:
        """For one case: nothing of it is left afterwards."""
        place.mkdir(parents=True, exist_ok=True)
        with FaultyProxy(self.emulator) as proxy, environment(AWS_ENDPOINT_URL=proxy.url, **CREDENTIALS):
            proxy.idempotent_by("RunTask", "clientToken")  # ministack knows no tokens
            world = World(place, self.docker, proxy, self.emulator, **given)
            try:
                yield world
                world.assert_nothing_is_left()
            finally:
                self.docker.may_start.set()
                for spec in world.specs:
                    for task in world.tasks(spec):
                        world.aws().stop_task(cluster=SETTINGS.cluster, task=task["taskArn"])


@contextlib.contextmanager
def emulated(directory: Path) -> Iterator[Emulated]:
    docker = DockerApi(directory, images=[IMAGE], path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    with docker.serve() as host, ministack(directory, docker_host=host, MINISTACK_DOCKER_TIMEOUT="60") as url:
        with environment(AWS_ENDPOINT_URL=url, **CREDENTIALS):
            furnish()
        yield Emulated(docker, url)


def furnish() -> None:
    """What Terraform makes in a real account, as far as the launcher needs it."""
    ecs, iam = client("ecs", 9, region=REGION), client("iam", 9, region=REGION)
    group = f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:1:autoScalingGroupName/nodes"
    providers = [SETTINGS.capacity_provider, str(SETTINGS.spot_capacity_provider)]
    for name in providers:
        ecs.create_capacity_provider(name=name, autoScalingGroupProvider={"autoScalingGroupArn": group})
    ecs.create_cluster(clusterName=SETTINGS.cluster, capacityProviders=providers)
    may = {"Effect": "Allow", "Principal": {"Service": "ecs-tasks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    trust = {"Version": "2012-10-17", "Statement": [may]}
    for role in (SETTINGS.execution_role, SETTINGS.task_role):
        iam.create_role(RoleName=role.rpartition("/")[2], AssumeRolePolicyDocument=json.dumps(trust))
    client("logs", 9, region=REGION).create_log_group(logGroupName=SETTINGS.log_group)


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
