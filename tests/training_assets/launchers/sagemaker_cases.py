"""What must hold of the SageMaker launcher, as functions that a test or a benchmark calls with a :class:`World`.

The launcher and its boto3 client are the real ones; the server is ``tests/emulators/sagemaker.py``, whose jobs run.
"""

import json
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.emulators.sagemaker import LOG_GROUP
from tests.training_assets.launchers.demo_training import TWO_NODES, Demo, OnThisMachine, Trained
from tests.training_assets.launchers.sagemaker_world import (
    HERE,
    HOSTS,
    MISSING,
    ON_THIS_MACHINE,
    RANKS,
    UNPULLABLE,
    World,
    begun,
    ended,
    ended_as,
    nothing_is_left,
    refused_as,
    step_of,
    training_of,
    until,
    until_begun,
)
from trainer.contract.attempts import read_beat
from trainer.contract.results import TrainResult
from training_assets.launchers import Handle, Launcher, LaunchSpec, LocalLauncher, Status
from training_assets.launchers.sagemaker.job import CHECKPOINTS, METRICS
from training_assets.launchers.sagemaker.launcher import SageMakerLauncher
from training_assets.launchers.session import new_attempt


def case_success(world: World) -> None:
    launcher, spec = world.launcher(), world.spec("fine")
    handle = launcher.launch(spec)
    assert ended(launcher, handle) == Status("succeeded", 0)
    launcher.stop(handle)
    nothing_is_left(world, spec)
    assert begun(spec) == ["algo-1", "algo-2"]
    seen = (spec.run_dir / "starts").read_text().split()[2]
    assert seen == f"/opt/ml/input/data/store/{spec.run_dir.relative_to(world.store)}"
    assert launcher.seconds_billed(handle)
    text, _ = launcher.logs(handle, last=True)
    lines = {"algo-1 is fine", "algo-2 is fine"}
    assert lines <= set(text.splitlines())
    until(lambda: lines <= set(kept_by_cloudwatch(world, handle)), 10)


def kept_by_cloudwatch(world: World, handle: Handle) -> list[str]:
    logs = world.cloud.client("logs")
    found = logs.filter_log_events(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{handle.id}/")
    return [event["message"] for event in found["events"]]


def case_long_values(world: World) -> None:
    """Longer environment values and more arguments than SageMaker takes reach the hosts all the same."""
    long = {f"LONG_{number}": "x" * 4000 for number in range(150)}
    launcher, spec = world.launcher(), world.spec("environment")
    arguments = (*spec.arguments, *("argument " * 100 for _ in range(150)))
    spec = replace(spec, arguments=arguments, environment={**spec.environment, **long})
    assert ended(launcher, launcher.launch(spec)).state == "succeeded"
    for host in ("algo-1", "algo-2"):
        seen = json.loads((spec.run_dir / f"environment-{host}.json").read_text())
        assert long.items() <= seen.items()
        assert seen["TRAINING_ASSETS_ATTEMPT"] == spec.attempt
    nothing_is_left(world, spec)


def case_crash(world: World) -> None:
    launcher, spec = world.launcher(), world.spec("crash")
    handle = launcher.launch(spec)
    status = ended_as(world, launcher, handle, "crash")
    assert status.exit_code == 1
    assert status.log == spec.log_of(1)
    assert "algo-2 fell over its own feet" in status.log.read_text()
    assert "node 1 of 2 ended: exit, 1" in world.cloud.jobs[handle.id].described["FailureReason"]


def case_never_begun(world: World) -> None:
    """The image has no such interpreter: nobody but SageMaker can say so."""
    launcher, spec = world.launcher(python="no-such-python"), world.spec("fine")
    status = ended_as(world, launcher, launcher.launch(spec), "crash")
    assert "AlgorithmError" in status.reason


def case_kill_node(world: World) -> None:
    """A host's machine fails while both train."""
    launcher, spec = world.launcher(), world.spec("polite")
    handle = launcher.launch(spec)
    until_begun(spec)
    world.cloud.lose_host(handle.id, 1)
    ended_as(world, launcher, handle, "host_lost")
    again = world.spec("fine", spec.run_dir)
    assert ended(launcher, launcher.launch(again)).state == "succeeded"
    nothing_is_left(world, spec, again)


def case_kill_container(world: World) -> None:
    """A host's container is killed, and SageMaker knows no more than its exit code."""
    launcher, spec = world.launcher(), world.spec("polite")
    handle = launcher.launch(spec)
    until_begun(spec)
    world.cloud.jobs[handle.id].hosts[1].signal(signal.SIGKILL)
    ended_as(world, launcher, handle, "rank_lost")


def case_spot(world: World) -> None:
    """Spot instances are taken; SageMaker would start the job again, and the launcher ends it and begins an attempt."""
    launcher, spec = world.launcher(spot=True), world.spec("polite")
    handle = launcher.launch(spec)
    until_begun(spec)
    world.cloud.interrupt(handle.id)
    status = ended_as(world, launcher, handle, "spot")
    assert "spot" in status.reason
    assert {path.name for path in spec.run_dir.glob("saved-*")} == {"saved-algo-1", "saved-algo-2"}
    again = world.spec("fine", spec.run_dir)
    assert ended(launcher, launcher.launch(again)).state == "succeeded"
    nothing_is_left(world, spec, again)


def case_spot_unwatched(world: World) -> None:
    """Nobody looks while SageMaker starts the interrupted job again: its hosts see that the attempt is over."""
    launcher, spec = world.launcher(spot=True), world.spec("polite")
    handle = launcher.launch(spec)
    until_begun(spec)
    world.cloud.interrupt(handle.id)
    until(lambda: not world.cloud.running)
    assert begun(spec) == ["algo-1", "algo-2"], "the attempt has not trained a second time"
    ended_as(world, launcher, handle, "spot")


def case_capacity(world: World) -> None:
    """There is one instance where two are asked for: SageMaker places all or none, and gives up."""
    world.cloud.capacity, world.cloud.pending_seconds = 1, 0.5
    launcher, spec = world.launcher(), world.spec("fine")
    handle = launcher.launch(spec)
    assert not begun(spec)
    status = ended_as(world, launcher, handle, "capacity")
    assert "Unable to provision" in status.reason
    assert not begun(spec)


def case_capacity_patience(world: World) -> None:
    """SageMaker would wait on; the launcher does not, and takes the job back."""
    world.cloud.capacity = 1
    launcher, spec = world.launcher(placement_minutes=0.02), world.spec("fine")
    handle = launcher.launch(spec)
    until(lambda: "waiting for compute capacity" in launcher.poll(handle).waits_for)
    ended_as(world, launcher, handle, "capacity")
    assert world.cloud.jobs[handle.id].described["TrainingJobStatus"] == "Stopped"
    assert not begun(spec)


def case_quota(world: World) -> None:
    world.cloud.instance_quota = 1
    refused_as(world, world.launcher(), world.spec("fine"), "quota")


def case_image(world: World) -> None:
    refused_as(world, world.launcher(image=MISSING), world.spec("fine"), "image")


def case_image_pull(world: World) -> None:
    launcher, spec = world.launcher(image=UNPULLABLE), world.spec("fine")
    ended_as(world, launcher, launcher.launch(spec), "image")


def case_deadline(world: World) -> None:
    """The nodes end themselves at the recipe's wall."""
    launch = HOSTS.model_copy(update={"max_run_seconds": 1.0})
    launcher, spec = world.launcher(), world.spec("polite", launch=launch, deadline_grace=1.0)
    ended_as(world, launcher, launcher.launch(spec), "deadline")


def case_deadline_backend(world: World) -> None:
    """What has no wall of its own is ended by SageMaker."""
    world.cloud.grace = 1.0
    launcher, spec = world.launcher(max_run_seconds=2), world.spec("stubborn")
    status = ended_as(world, launcher, launcher.launch(spec), "deadline")
    assert "MaxRuntimeInSeconds" in status.reason


def case_cancel_during_start(world: World) -> None:
    world.cloud.starting_seconds = 30.0
    launcher, spec = world.launcher(), world.spec("fine")
    handle = launcher.launch(spec)
    launcher.stop(handle)
    assert launcher.poll(handle).kind == "cancelled"
    launcher.stop(handle)  # twice is fine
    nothing_is_left(world, spec)
    assert not begun(spec)


def case_cancel_during_training(world: World) -> None:
    launcher, spec = world.launcher(), world.spec("polite")
    handle = launcher.launch(spec)
    until_begun(spec)
    launcher.stop(handle)
    nothing_is_left(world, spec)
    assert {path.name for path in spec.run_dir.glob("saved-*")} == {"saved-algo-1", "saved-algo-2"}
    assert launcher.poll(handle).kind == "cancelled"
    launcher.stop(handle)


def case_cancel_stubborn(world: World) -> None:
    world.cloud.grace = 1.0
    launcher, spec = world.launcher(), world.spec("stubborn")
    handle = launcher.launch(spec)
    until_begun(spec)
    launcher.stop(handle)
    nothing_is_left(world, spec)


def case_stopped_by_somebody(world: World) -> None:
    """In the console, say: the run goes on with another attempt."""
    launcher, spec = world.launcher(), world.spec("polite")
    handle = launcher.launch(spec)
    until_begun(spec)
    world.cloud.client("sagemaker").stop_training_job(TrainingJobName=handle.id)
    status = ended_as(world, launcher, handle, "stopped")
    assert status.state == "interrupted"


def case_orchestrator_killed(world: World) -> None:
    """A step's process is killed; the next one finds the job, and goes on with that instead of a second one."""
    spec = world.spec("polite")
    first = step_of(world, spec)
    until_begun(spec)
    first.kill()
    first.wait()
    again = step_of(world, replace(spec, attempt=new_attempt()))
    until(lambda: world.cloud.calls["DescribeTrainingJob"] > 4)
    assert list(world.cloud.jobs) == [next(iter(world.cloud.jobs))]
    assert begun(spec) == ["algo-1", "algo-2"]
    job = next(iter(world.cloud.jobs))
    calls = world.cloud.calls["DescribeTrainingJob"]
    until(lambda: world.cloud.calls["DescribeTrainingJob"] > calls + 2)
    again.send_signal(signal.SIGINT)  # cancelled: the step that goes on with it stops it
    assert again.wait(60) != 0
    assert world.cloud.jobs[job].described["TrainingJobStatus"] == "Stopped"
    nothing_is_left(world, spec)


def case_faults(world: World) -> None:
    """Every call is throttled, then fails, and is answered the third time."""
    every = ("CreateTrainingJob", "DescribeTrainingJob", "ListTrainingJobs", "StopTrainingJob")
    world.cloud.faults = {action: ["throttle", "error"] for action in every}
    launcher, spec = world.launcher(), world.spec("polite")
    handle = launcher.launch(spec)
    until_begun(spec)
    assert launcher.poll(handle).state == "running"
    other = launcher.launch(world.spec("fine"))
    assert ended(launcher, other).state == "succeeded"
    launcher.stop(handle)
    assert not any(world.cloud.faults.values()), world.cloud.faults
    nothing_is_left(world, spec, other.spec)


def case_lost_answers(world: World) -> None:
    """Jobs are created, described and stopped, and the answers are lost on their way: nothing is done twice."""
    actions = ("CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob")
    world.cloud.faults = {action: ["lost"] for action in actions}
    launcher, spec = world.launcher(), world.spec("polite")
    handle = launcher.launch(spec)
    until_begun(spec)
    assert launcher.poll(handle).state == "running"
    launcher.stop(handle)
    assert len(world.cloud.jobs) == 1
    assert begun(spec) == ["algo-1", "algo-2"]
    nothing_is_left(world, spec)


def case_repeated_requests(world: World) -> None:
    """Requests arrive twice, and two processes launch the same attempt: it is one job."""
    world.cloud.faults = {"CreateTrainingJob": ["twice"], "StopTrainingJob": ["twice"]}
    launcher, spec = world.launcher(), world.spec("polite")
    handle, same = launcher.launch(spec), world.launcher().launch(spec)
    assert handle.id == same.id
    assert launcher.attach(Handle("", spec, 0.0)) == replace(handle, started_at=0.0)
    until_begun(spec)
    launcher.stop(handle)
    assert len(world.cloud.jobs) == 1
    assert begun(spec) == ["algo-1", "algo-2"]
    nothing_is_left(world, spec)


def case_unreachable(world: World) -> None:
    """Longer trouble is not hidden: it is raised after a bounded number of tries, and nothing is left."""

    class Hasty(SageMakerLauncher):
        tries = 3

    launcher, spec = Hasty.of(world.profile()), world.spec("fine")
    world.cloud.faults = {"CreateTrainingJob": ["throttle"] * 100}
    with pytest.raises(launcher.jobs.client.exceptions.ClientError, match="Rate exceeded"):
        launcher.launch(spec)
    assert world.cloud.calls["CreateTrainingJob"] == Hasty.tries
    assert launcher.attach(Handle("", spec, 0.0)) is None


def case_hundred_runs(world: World) -> dict[str, float]:
    """One process watches a hundred runs: calls do not grow with them. Returns the calls of each kind a minute."""
    world.cloud.capacity = 0
    launcher = world.launcher()
    handles = [launcher.launch(world.spec("fine")) for _ in range(100)]
    for handle in handles:
        launcher.poll(handle)
    launcher.poll_seconds = 1.0
    world.cloud.calls.clear()
    began, rounds = time.monotonic(), 0
    while time.monotonic() - began < 5:
        assert {launcher.poll(handle).state for handle in handles} == {"running"}
        rounds += 1
        time.sleep(max(0.0, rounds * launcher.poll_seconds - (time.monotonic() - began)))
    counted = {action: float(count) / rounds for action, count in world.cloud.calls.items()}
    assert sum(counted.values()) <= 2, counted
    stoppers = [threading.Thread(target=launcher.stop, args=(handle,)) for handle in handles]
    for stopper in stoppers:
        stopper.start()
    for stopper in stoppers:
        stopper.join()
    nothing_is_left(world)
    return {action: each * 60 / SageMakerLauncher.poll_seconds for action, each in counted.items()}


def case_training(world: World, recipe: Path, delivery: Path) -> None:
    """Two hosts train what the local launcher's two ranks train, to the bit, with the store seen under its mount."""
    spec = training_of(world, recipe, delivery, RANKS)
    launcher = world.launcher()
    assert trained(launcher, launcher.launch(spec)) == trained_here(world, recipe, delivery)
    log = spec.log.read_text()
    read = {name for name, regex in METRICS.items() if re.search(regex, log)}
    assert read >= {"train:epoch", "loss:total", "val:detection:AP50", "val:segmentation:mIoU"}
    nothing_is_left(world, spec)


def case_training_interrupted(world: World, recipe: Path, delivery: Path) -> None:
    """Spot instances are taken in the middle of training; the next attempt resumes, as if nothing had been."""
    launcher, spec = world.launcher(spot=True), training_of(world, recipe, delivery, RANKS)
    spec = replace(spec, arguments=(*spec.arguments, "--copy-to", f"{CHECKPOINTS}/copies"))
    handle = launcher.launch(spec)
    while (beat := read_beat(spec.attempt_dir, 0)) is None or beat.finished == 0:
        status = launcher.poll(handle)
        assert status.state == "running", status
        time.sleep(0.05)
    world.cloud.interrupt(handle.id)
    ended_as(world, launcher, handle, "spot")
    again = replace(spec, attempt=new_attempt())
    assert trained(launcher, launcher.launch(again)) == trained_here(world, recipe, delivery)
    assert result_of(spec).resumed_from_step
    kept = world.cloud.checkpoints(f"s3://bucket/checkpoints/{spec.run_dir.name}/copies")
    assert list(kept.glob("step-*/COMPLETE")), "SageMaker takes these to S3"
    nothing_is_left(world, spec, again)


def train_demo(world: World, demo: Demo) -> Trained:
    """The demo's own training as a job on two hosts."""
    launcher = OnThisMachine(world.launcher(), ON_THIS_MACHINE)
    trained = demo.trained(world.store, launcher, TWO_NODES)
    nothing_is_left(world, *launcher.launched)
    return trained


def trained(launcher: Launcher, handle: Handle) -> str:
    """Digest of the state that the training ends with."""
    status = ended(launcher, handle, 200)
    assert status.state == "succeeded", (status, handle.spec.log.read_text()[-3000:])
    launcher.stop(handle)
    return result_of(handle.spec).state_sha256


def trained_here(world: World, recipe: Path, delivery: Path) -> str:
    launcher = LocalLauncher()
    return trained(launcher, launcher.launch(training_of(world, recipe, delivery, HERE)))


def result_of(spec: LaunchSpec) -> TrainResult:
    return TrainResult.model_validate_json((spec.run_dir / "result.json").read_bytes())


CASES: dict[str, Callable[[World], object]] = {
    name.removeprefix("case_"): function
    for name, function in list(globals().items())
    if name.startswith("case_") and "recipe" not in function.__annotations__
}
TRAINING_CASES: dict[str, Callable[[World, Path, Path], object]] = {
    "training": case_training,
    "training_interrupted": case_training_interrupted,
}
