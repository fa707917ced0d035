"""What must hold of the ECS launcher, case by case, on real parts: boto3, ministack, tasks that execute.

Each ``case_<name>(world)`` raises AssertionError where it does not hold; ``CASES`` has them all by name.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from tests.emulators.faults import Fault, FaultyProxy
from tests.emulators.metadata import metadata_service
from tests.emulators.ministack import ministack
from tests.training_assets.launchers.demo_training import TWO_NODES, Demo, OnThisMachine, Trained
from tests.training_assets.launchers.ecs_world import (
    ACCOUNT,
    CREDENTIALS,
    IMAGE,
    ON_THIS_MACHINE,
    REGION,
    ROOT,
    SETTINGS,
    TWO,
    World,
    environment,
    furnish,
    launcher_at,
    spec_at,
    until,
)
from trainer.contract.results import TrainResult
from trainer.contract.train_config import Launch
from training_assets.launchers import LocalLauncher
from training_assets.launchers.base import Handle, LaunchFailed, LaunchSpec, Status
from training_assets.launchers.ecs.launcher import POLL_SECONDS, EcsLauncher


def case_success(world: World) -> None:
    handle = world.launcher.launch(spec := world.spec())
    world.until_at_work(handle)
    world.finish()
    assert world.end(handle) == Status("succeeded", 0)
    assert "node 1 is at work" in world.launcher.logs(handle, last=True)[0]
    world.assert_each_node_started_once(spec)


def case_training(world: World) -> None:
    """A real training on two nodes ends with the state that two ranks of one machine end with."""
    states = []
    for nodes, launcher in ((1, LocalLauncher()), (2, world.launcher)):
        place = world.place / f"nodes-{nodes}"
        sets = ("--set", f"launch.devices={2 // nodes}", "--set", f"launch.num_nodes={nodes}")
        arguments = ("train", str(world.recipe), "--data", str(world.delivery), "--run-dir", str(place), *sets)
        launch = Launch(accelerator="cpu", devices=2 // nodes, num_nodes=nodes)
        spec = spec_at(place, f"attempt-{uuid4().hex[:12]}", arguments=arguments, launch=launch, module="trainer")
        world.specs.append(spec)
        handle = launcher.launch(spec)
        until(lambda handle=handle, launcher=launcher: launcher.poll(handle).state != "running", 200)  # type: ignore[misc]
        assert launcher.poll(handle) == Status("succeeded", 0), spec.log.read_text()[-3000:]
        states.append(TrainResult.model_validate_json((place / "result.json").read_bytes()).state_sha256)
    assert states[0] == states[1]


def case_crash(world: World) -> None:
    handle = world.launcher.launch(world.spec("crash"))
    world.until_at_work(handle)
    world.finish()
    status = world.end(handle)
    assert (status.state, status.kind, status.exit_code) == ("failed", "crash", 1), status
    assert status.log is not None
    assert "node 1 fell over its own feet" in status.log.read_text()


def case_node_killed(world: World) -> None:
    handle = world.launcher.launch(spec := world.spec())
    world.until_at_work(handle)
    world.container(spec, 1).kill()
    status = world.end(handle)
    assert (status.state, status.kind, status.exit_code) == ("failed", "rank_lost", -9), status
    assert (world.place / "saved-0").exists(), "the other node was not asked to save"


def case_host_lost(world: World) -> None:
    handle = world.launcher.launch(spec := world.spec())
    world.until_at_work(handle)
    world.stopped_as("TerminationNotice", "Host EC2 (instance i-0123456789abcdef0) terminated.")
    world.container(spec, 0).kill()
    status = world.end(handle)
    assert (status.state, status.kind, status.exit_code) == ("failed", "host_lost", None), status
    assert "i-0123456789abcdef0" in status.reason


def case_no_exit_code(world: World) -> None:
    """Whatever ECS says or leaves out: without an exit code it is no success."""
    handle = world.launcher.launch(spec := world.spec())
    world.until_at_work(handle)
    world.stopped_as("", "")
    world.container(spec, 0).kill()
    world.container(spec, 1).kill()
    status = world.end(handle)
    assert (status.state, status.kind) == ("failed", "host_lost"), status


def case_spot_notice(world: World) -> None:
    with metadata_service() as service:
        world.launcher = world.another_launcher(spot=True)
        spec = world.spec(environment={"AWS_EC2_METADATA_SERVICE_ENDPOINT": service.url})
        handle = world.launcher.launch(spec)
        world.until_at_work(handle)
        service.notice = True
        status = world.end(handle)
    assert (status.state, status.kind) == ("failed", "spot"), status
    assert {path.name for path in world.place.glob("saved-*")} == {"saved-0", "saved-1"}
    provider = world.tasks(spec)[0]["capacityProviderName"]
    assert provider == SETTINGS.spot_capacity_provider


def case_spot_lost(world: World) -> None:
    """A spot instance that is gone before its node could say a word."""
    world.launcher = world.another_launcher(spot=True)
    handle = world.launcher.launch(spec := world.spec())
    world.until_at_work(handle)
    world.stopped_as("SpotInterruption", "Your Spot Task was interrupted.")
    world.container(spec, 1).kill()
    status = world.end(handle)
    assert (status.state, status.kind, status.exit_code) == ("failed", "spot", None), status


def case_capacity(world: World) -> None:
    """One node of two is refused: the other is given back."""
    arn = f"arn:aws:ecs:{REGION}:{ACCOUNT}:container-instance/i-1"
    refusal = {"tasks": [], "failures": [{"arn": arn, "reason": "RESOURCE:GPU"}]}
    world.proxy.add(Fault("answer", "RunTask", after=1, body=refusal))
    status = _refused(world)
    assert status.kind == "capacity", status
    assert "node 1 of 2 was not placed" in status.reason
    assert "RESOURCE:GPU" in status.reason
    assert len(world.tasks(world.specs[-1], "STOPPED")) == 1


def case_quota(world: World) -> None:
    body = {"__type": "ClientException", "message": "VcpuLimitExceeded: you have requested more vCPU capacity than "
            "your current vCPU limit of 64 allows"}  # fmt: skip
    world.proxy.add(Fault("answer", "RunTask", after=1, status=400, body=body))
    assert _refused(world).kind == "quota"


def case_image_missing(world: World) -> None:
    world.launcher = launcher_at(world.place, image=IMAGE.replace("a" * 64, "b" * 64))
    status = world.end(world.launcher.launch(world.spec()))
    assert (status.state, status.kind, status.exit_code) == ("failed", "image", None), status


def case_out_of_memory(world: World) -> None:
    handle = world.launcher.launch(spec := world.spec())
    world.until_at_work(handle)
    said = "OutOfMemoryError: Container killed due to memory usage"
    world.stopped_as("EssentialContainerExited", "Essential container in task exited", 137, said)
    world.container(spec, 1).kill()
    status = world.end(handle)
    assert (status.state, status.kind, status.exit_code) == ("failed", "out_of_memory", 137), status


def case_never_placed(world: World) -> None:
    world.launcher = world.another_launcher(placement_minutes=1 / 60)
    world.docker.may_start.clear()
    handle = world.launcher.launch(world.spec())
    until(lambda: "2 of 2 nodes wait: ECS has its task in" in world.launcher.poll(handle).waits_for)
    status = world.end(handle)
    assert (status.state, status.kind) == ("failed", "capacity"), status
    world.docker.may_start.set()


def case_deadline(world: World) -> None:
    launch = TWO.model_copy(update={"max_run_seconds": 2.0})
    handle = world.launcher.launch(world.spec(launch=launch, deadline_grace=1.0))
    status = world.end(handle)
    assert (status.state, status.kind) == ("deadline", "deadline"), status


def case_cancelled_during_start(world: World) -> None:
    world.docker.may_start.clear()
    handle = world.launcher.launch(spec := world.spec())
    until(lambda: bool(world.launcher.poll(handle).waits_for))
    world.launcher.stop(handle)
    world.docker.may_start.set()
    assert len(world.tasks(spec, "STOPPED")) == 2
    assert world.launcher.poll(handle).state == "failed"
    world.launcher.stop(handle)  # twice is fine


def case_cancelled_during_training(world: World) -> None:
    handle = world.launcher.launch(spec := world.spec())
    world.until_at_work(handle)
    world.launcher.stop(handle)
    assert len(world.tasks(spec, "STOPPED")) == 2
    assert {path.name for path in world.place.glob("saved-*")} == {"saved-0", "saved-1"}
    assert world.launcher.poll(handle).state == "interrupted"
    world.launcher.stop(handle)


def case_orchestrator_killed(world: World) -> None:
    """All nodes run, and whoever started them died before it could keep their names."""
    spec = world.spec()
    orchestrator = _orchestrator(world, spec)
    until(lambda: (world.place / "launched").exists())
    _kill(orchestrator)
    handle = world.launcher.attach(Handle("", spec, time.time()))
    assert handle is not None
    assert len(set(handle.nodes)) == 2
    assert world.launcher.launch(spec).nodes == handle.nodes, "launching it again starts nothing"
    world.until_at_work(handle)
    world.finish()
    assert world.end(handle) == Status("succeeded", 0)
    world.assert_each_node_started_once(spec)


def case_orchestrator_killed_while_launching(world: World) -> None:
    """Killed between two nodes: who attaches ends the half of a gang, who launches it again completes it."""
    spec = world.spec()
    world.proxy.add(broken := Fault("drop", "RunTask", after=1, times=1000))
    orchestrator = _orchestrator(world, spec)
    until(lambda: world.proxy.calls["RunTask"] >= 2)
    _kill(orchestrator)
    world.proxy.faults.remove(broken)
    half = world.launcher.attach(Handle("", spec, time.time()))
    assert half is not None
    assert [bool(arn) for arn in half.nodes] == [True, False]
    status = world.launcher.poll(half)
    assert (status.state, status.kind) == ("failed", "host_lost"), status
    assert "it was never started" in status.reason
    handle = world.launcher.launch(spec)
    world.until_at_work(handle)
    world.assert_each_node_started_once(spec)
    world.launcher.stop(half)  # knows one node, and stops both


def case_step_cancelled(world: World) -> None:
    """Dagster interrupts the step: every node is asked to save and ends, and the attempt is kept as cancelled."""
    spec = world.spec()
    step = _orchestrator(world, spec, "step")
    until(lambda: (world.place / "starts-1").exists() and (world.place / "starts-0").exists())
    step.send_signal(signal.SIGINT)
    assert step.wait(60) != 0
    assert json.loads((spec.attempt_dir / "outcome.json").read_bytes())["kind"] == "cancelled"
    assert {path.name for path in world.place.glob("saved-*")} == {"saved-0", "saved-1"}
    assert len(world.tasks(spec, "STOPPED")) == 2


def case_step_killed_and_tried_again(world: World) -> None:
    """The step's process dies; its next try goes on with what runs instead of training twice."""
    spec, again = world.spec(), world.spec()
    step = _orchestrator(world, spec, "step")
    until(lambda: (world.place / "starts-1").exists() and (world.place / "starts-0").exists())
    _kill(step)
    asked = world.proxy.calls["DescribeTasks"]
    retried = _orchestrator(world, again, "step")
    until(lambda: world.proxy.calls["DescribeTasks"] > asked)
    world.finish()
    assert retried.wait(60) == 0
    assert json.loads((spec.attempt_dir / "outcome.json").read_bytes())["state"] == "succeeded"
    assert not world.tasks(again)
    world.assert_each_node_started_once(spec)


def case_throttled(world: World) -> None:
    _through(world, Fault("throttle"))


def case_server_errors(world: World) -> None:
    _through(world, Fault("error"))


def case_connections_dropped(world: World) -> None:
    _through(world, Fault("drop"))


def case_answers_lost(world: World) -> None:
    """Each call is performed, its answer lost, and the call repeated."""
    _through(world, Fault("lose"))


def case_unreachable(world: World) -> None:
    """For longer than is waited for: it was not started, or somebody is told."""
    world.launcher = launcher_at(world.place, attempts=4)
    world.proxy.add(Fault("error", "RunTask", after=1, times=1000))
    status = _refused(world)
    assert status.kind == "capacity", status
    assert "ECS cannot be reached" in status.reason
    assert world.proxy.calls["RunTask"] == 1 + 4


def train_demo(world: World, demo: Demo) -> Trained:
    """The demo's own training as two tasks."""
    launcher = OnThisMachine(world.launcher, ON_THIS_MACHINE)
    trained = demo.trained(world.place / "store", launcher, TWO_NODES)
    world.specs += launcher.launched
    assert [len(world.tasks(spec)) for spec in launcher.launched] == [2]
    return trained


def calls_a_minute(directory: Path, attempts: int = 100, seconds: float = 20.0) -> dict[str, float]:
    """API calls by action with which one process watches so many attempts of two nodes, at the shipped pace.

    Their tasks run nothing: ministack without a Docker API has them RUNNING for ever.
    """
    with ministack(directory) as url, FaultyProxy(url) as proxy, environment(AWS_ENDPOINT_URL=proxy.url, **CREDENTIALS):
        furnish()
        launcher = launcher_at(directory, poll_seconds=POLL_SECONDS)
        specs = [spec_at(directory / f"run-{number}", f"attempt-{number}") for number in range(attempts)]
        handles = [launcher.launch(spec) for spec in specs]
        end, before = time.monotonic() + seconds, Counter(proxy.calls)
        watchers = [threading.Thread(target=_watch, args=(launcher, handle, end)) for handle in handles]
        for watcher in watchers:
            watcher.start()
        for watcher in watchers:
            watcher.join()
        return {action: calls * 60 / seconds for action, calls in (proxy.calls - before).items()}


def _watch(launcher: EcsLauncher, handle: Handle, until_: float) -> None:
    while time.monotonic() < until_:
        assert launcher.poll(handle) == Status("running")
        time.sleep(launcher.poll_seconds)


CASES: dict[str, Callable[[World], None]] = {
    name.removeprefix("case_"): case for name, case in list(globals().items()) if name.startswith("case_")
}


def _refused(world: World) -> Status:
    try:
        world.launcher.launch(world.spec())
    except LaunchFailed as failed:
        return failed.status
    raise AssertionError("it was launched")


def _through(world: World, fault: Fault) -> None:
    """A whole life under ``fault``: launched, found again, watched, stopped."""
    world.proxy.add(fault)
    spec = world.spec()
    handle = world.launcher.launch(spec)
    attached = world.another_launcher().attach(Handle("", spec, handle.started_at))
    assert attached is not None
    assert attached.nodes == handle.nodes
    world.until_at_work(handle)
    world.launcher.stop(handle)
    assert world.launcher.poll(handle).state == "interrupted"
    world.assert_each_node_started_once(spec)
    for action in ("DescribeTaskDefinition", "RunTask", "ListTasks", "DescribeTasks", "StopTask"):
        assert fault.seen[action] > fault.times, f"{action} was not tried again"


def _orchestrator(world: World, spec: LaunchSpec, how: str = "launch") -> "subprocess.Popen[bytes]":
    module = "tests.training_assets.launchers.ecs_orchestrator"
    command = [sys.executable, "-m", module, how, spec.attempt, str(world.place)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
