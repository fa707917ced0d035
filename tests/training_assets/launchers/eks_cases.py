"""What must hold of an attempt on EKS, whatever goes wrong: each ``case_…`` takes a world of its own and asserts.

pytest runs them (``test_eks_cases.py``), and the benchmark that writes the table of backends and cases. A world is an
emulated cluster that runs pods as processes, and the real launcher with the real client in front of it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.emulators.kubernetes_api import Fault
from tests.emulators.kubernetes_cluster import Cluster, Host
from tests.training_assets.launchers.demo_training import TWO_NODES as DEMO_ON_TWO_NODES
from tests.training_assets.launchers.demo_training import Demo, Trained
from trainer.contract.ports import free_port
from trainer.contract.results import TrainResult
from trainer.contract.train_config import Launch
from training_assets.launchers.base import Handle, LaunchFailed, LaunchSpec, Status
from training_assets.launchers.eks.launcher import EksLauncher
from training_assets.launchers.eks.manifest import manifests
from training_assets.launchers.eks.settings import Settings
from training_assets.launchers.local import LocalLauncher
from training_assets.launchers.session import new_attempt, run_to_end
from training_assets.profiles.hardware import Hardware

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/training-assets/trainer@sha256:{64 * '0'}"
TWO_NODES = Launch(strategy="ddp_fork", num_nodes=2, accelerator="cpu")
"""Without torchrun: a node starts in half a second."""


@dataclass
class World:
    """``run_dir`` is that of all attempts here. ``recipe`` and ``delivery`` are what trainings need."""

    cluster: Cluster
    run_dir: Path
    recipe: Path | None = None
    delivery: Path | None = None
    kubeconfig: Path = field(init=False)

    def __post_init__(self) -> None:
        self.kubeconfig = self.cluster.api.kubeconfig(self.run_dir.parent / "kubeconfig")

    def launcher(self, placement_seconds: float = 60, spot: bool = False, **backend: Any) -> EksLauncher:
        hardware = Hardware(instance_type="m5.large", spot=spot, placement_minutes=placement_seconds / 60)
        return _launcher(self.kubeconfig, self.run_dir.parent, hardware, **{"retry_seconds": 20.0, **backend})

    def spec(self, role: str, launch: Launch = TWO_NODES, **other: Any) -> LaunchSpec:
        return LaunchSpec((role, str(self.run_dir)), self.run_dir, new_attempt(), "eks_node", launch, **other)

    def started(self) -> list[str]:
        """A name for each start of a node."""
        return sorted(path.name for path in self.run_dir.glob("started-*"))

    def both_started(self) -> bool:
        return {name.split("-")[1] for name in self.started()} == {"0", "1"}

    def assert_nothing_left(self) -> None:
        """No process, no pod, and nothing of the attempt in the API."""
        assert not self.cluster.processes()
        for resource in ("pods", "jobs", "services", "networkpolicies"):
            assert not self.cluster.api.store.all(resource), resource


@contextmanager
def open_world(place: Path, recipe: Path | None = None, delivery: Path | None = None) -> Iterator[World]:
    run_dir = place / "store" / "tiny-abc12345"
    run_dir.mkdir(parents=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{HERE}",
    }
    with Cluster(place / "pods", environment) as cluster:
        yield World(cluster, run_dir, recipe, delivery)


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def ended(launcher: EksLauncher, handle: Handle, seconds: float = 60) -> Status:
    """How it ended; after that it is stopped, as a session does."""
    found: list[Status] = []

    def over() -> bool:
        found.append(launcher.poll(handle))
        return found[-1].state != "running"

    until(over, seconds)
    launcher.stop(handle)
    return found[-1]


def case_success(world: World) -> None:
    launcher, spec = world.launcher(), world.spec("fine")
    handle = launcher.launch(spec)
    assert ended(launcher, handle) == Status("succeeded", 0)
    assert "node 0 is fine" in launcher.logs(handle, last=True)[0]
    assert "node 1 is fine" in launcher.logs(handle, last=True)[0]
    assert len(world.started()) == 2
    world.assert_nothing_left()


def case_crash_of_one_node(world: World) -> None:
    launcher = world.launcher()
    status = ended(launcher, launcher.launch(world.spec("crash")))
    assert (status.state, status.kind, status.exit_code) == ("failed", "crash", 1)
    assert status.log is not None
    assert "node 1 fell over its own feet" in status.log.read_text()
    assert (world.run_dir / "saved-0").exists()
    world.assert_nothing_left()


def case_kill_of_one_node(world: World) -> None:
    launcher = world.launcher()
    handle = launcher.launch(world.spec("polite"))
    until(world.both_started)
    world.cluster.kill(world.cluster.pods()[1])
    status = ended(launcher, handle)
    assert (status.state, status.kind) == ("failed", "rank_lost"), status
    assert (world.run_dir / "saved-0").exists()
    world.assert_nothing_left()


def case_eviction_of_a_spot_host(world: World) -> None:
    launcher = world.launcher(spot=True)
    handle = launcher.launch(world.spec("polite"))
    until(world.both_started)
    world.cluster.evict(world.cluster.pods()[1])
    status = ended(launcher, handle)
    assert (status.state, status.kind) == ("failed", "spot")
    assert "node 1 of 2: EvictionByEvictionAPI on host-" in status.reason
    assert {path.name for path in world.run_dir.glob("saved-*")} == {"saved-0", "saved-1"}
    world.assert_nothing_left()


def case_host_lost(world: World) -> None:
    """A dead host says nothing: its pod stays Running, and has to be forced off the API."""
    launcher = world.launcher()
    launcher.force_after = 2.0
    handle = launcher.launch(world.spec("polite"))
    until(world.both_started)
    world.cluster.lose_host(world.cluster.pods()[1])
    status = ended(launcher, handle)
    assert (status.state, status.kind) == ("failed", "host_lost")
    assert "node 1 of 2: DeletionByTaintManager on host-" in status.reason
    world.assert_nothing_left()


def case_memory_of_a_container(world: World) -> None:
    launcher = world.launcher()
    handle = launcher.launch(world.spec("polite"))
    until(world.both_started)
    world.cluster.kill(world.cluster.pods()[0], reason="OOMKilled")
    status = ended(launcher, handle)
    assert (status.state, status.kind) == ("failed", "out_of_memory")
    world.assert_nothing_left()


def case_capacity_for_one_node_of_two(world: World) -> None:
    world.cluster.hosts = [Host("only")]
    launcher = world.launcher(placement_seconds=3)
    handle = launcher.launch(world.spec("polite"))
    until(lambda: "Unschedulable: 0/1 nodes are available" in launcher.poll(handle).waits_for)
    status = ended(launcher, handle)
    assert (status.state, status.kind) == ("failed", "capacity")
    assert "node 1 of 2 did not come" in status.reason
    assert not world.started(), "no node begins before all are there"
    world.assert_nothing_left()


def case_quota(world: World) -> None:
    world.cluster.quota = 1
    launcher = world.launcher()
    status = ended(launcher, launcher.launch(world.spec("polite")))
    assert (status.state, status.kind) == ("failed", "quota")
    assert "exceeded quota: gpu" in status.reason
    world.assert_nothing_left()


def case_image_missing(world: World) -> None:
    world.cluster.missing_images = {IMAGE: "not found"}
    launcher = world.launcher()
    status = ended(launcher, launcher.launch(world.spec("polite")))
    assert (status.state, status.kind) == ("failed", "image")
    assert IMAGE in status.reason
    world.assert_nothing_left()


def case_registry_unreachable_for_a_moment(world: World) -> None:
    """The kubelet tries again: another attempt would cost more than to wait."""
    world.cluster.missing_images = {IMAGE: "dial tcp: i/o timeout"}
    launcher = world.launcher()
    handle = launcher.launch(world.spec("fine"))
    until(lambda: "i/o timeout" in launcher.poll(handle).waits_for)
    world.cluster.missing_images = {}
    assert ended(launcher, handle).state == "succeeded"
    world.assert_nothing_left()


def case_deadline(world: World) -> None:
    """The nodes know it too: they save and end before the backend has to."""
    launcher = world.launcher()
    limited = TWO_NODES.model_copy(update={"max_run_seconds": 4.0})
    status = ended(launcher, launcher.launch(world.spec("polite", limited, deadline_grace=0.5)))
    assert (status.state, status.kind) == ("deadline", "deadline")
    assert {path.name for path in world.run_dir.glob("saved-*")} == {"saved-0", "saved-1"}
    world.assert_nothing_left()


def case_deadline_by_the_backend(world: World) -> None:
    """Of nodes that do not hear: the backend ends the Job, and the launcher what is left of it."""
    launcher = world.launcher(placement_seconds=3)
    launcher.force_after = 1.0
    limited = TWO_NODES.model_copy(update={"max_run_seconds": 1.0})
    status = ended(launcher, launcher.launch(world.spec("stubborn", limited, deadline_grace=0.5)))
    assert status.kind == "deadline"
    assert "Job was active longer than specified deadline" in status.reason
    world.assert_nothing_left()


def case_cancel_during_start(world: World) -> None:
    world.cluster.hosts = [Host("only")]
    launcher = world.launcher()
    handle = launcher.launch(world.spec("polite"))
    until(lambda: len(world.cluster.containers) == 1)
    launcher.stop(handle)
    launcher.stop(handle)
    assert not world.started()
    world.assert_nothing_left()


def case_cancel_during_training(world: World) -> None:
    launcher = world.launcher()
    handle = launcher.launch(world.spec("polite"))
    until(world.both_started)
    launcher.stop(handle)
    assert {path.name for path in world.run_dir.glob("saved-*")} == {"saved-0", "saved-1"}
    assert launcher.poll(handle).state == "interrupted"
    world.assert_nothing_left()


def case_orchestrator_killed(world: World) -> None:
    """Another process goes on with the attempt: nothing is started twice."""
    spec = world.spec("wait")
    arguments = {"kubeconfig": str(world.kubeconfig), "run_dir": str(world.run_dir), "attempt": spec.attempt}
    process = subprocess.Popen([sys.executable, __file__, json.dumps(arguments)], env=_own_environment())
    until(world.both_started)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (world.run_dir / "go").touch()
    run_to_end(dg.build_asset_context(), world.launcher(), world.spec("wait"))
    assert len(world.started()) == 2
    assert [path.name for path in (world.run_dir / "attempts").iterdir() if path.is_dir()] == [spec.attempt]
    world.assert_nothing_left()


def case_orchestrator_killed_between_two_creations(world: World) -> None:
    """The Job is there and its Service is not: who goes on creates it."""
    launcher, spec = world.launcher(), world.spec("wait")
    handle = launcher.launch(spec)
    store = world.cluster.api.store
    with store.lock:
        store.remove("services", store.all("services")[0])
    assert world.launcher().attach(Handle("", spec, time.time())) is not None
    assert store.all("services")
    (world.run_dir / "go").touch()
    assert ended(launcher, handle).state == "succeeded"
    world.assert_nothing_left()


def case_forgotten_attempt(world: World) -> None:
    """A run directory holds one training: an attempt that nobody watches is ended before another begins."""
    first = world.launcher()
    first.launch(world.spec("polite"))
    until(world.both_started)
    time.sleep(1.0)  # attempts are named by the second
    launcher = world.launcher()
    handle = launcher.launch(world.spec("fine"))
    assert {path.name for path in world.run_dir.glob("saved-*")} == {"saved-0", "saved-1"}
    assert ended(launcher, handle).state == "succeeded"
    world.assert_nothing_left()


def case_throttling_and_errors_of_every_api(world: World) -> None:
    faults = world.cluster.api.faults
    for verb, resource in (("list", "jobs"), ("create", "jobs"), ("create", "services"), ("create", "networkpolicies"),
                           ("list", "pods"), ("get", "jobs"), ("delete", "jobs"), ("list", "events")):  # fmt: skip
        faults += [Fault(verb, resource, status=429, retry_after=1), Fault(verb, resource, status=503),
                   Fault(verb, resource, status=500)]  # fmt: skip
    world.cluster.quota = 1  # so that events are asked for
    launcher, spec = world.launcher(), world.spec("fine")
    handle = launcher.launch(spec)
    until(lambda: launcher.poll(handle).kind == "quota")
    world.cluster.quota = None
    assert launcher.attach(handle) is not None
    until(lambda: launcher.poll(handle).state == "succeeded")
    launcher.stop(handle)
    assert not [fault for fault in faults if fault.times], "every fault was met"
    assert len(world.started()) == 2
    world.assert_nothing_left()


def case_lost_answers(world: World) -> None:
    """The server did it and nobody was told: asking again must neither fail nor do it twice."""
    faults = world.cluster.api.faults
    for verb, resource in (("create", "jobs"), ("create", "services"), ("create", "networkpolicies"),
                           ("list", "pods"), ("delete", "jobs")):  # fmt: skip
        faults.append(Fault(verb, resource, "drop"))
    launcher = world.launcher()
    assert ended(launcher, launcher.launch(world.spec("fine"))).state == "succeeded"
    assert not [fault for fault in faults if fault.times]
    assert len(world.started()) == 2
    world.assert_nothing_left()


def case_repeated_requests(world: World) -> None:
    faults = world.cluster.api.faults
    for resource in ("jobs", "services", "networkpolicies"):
        faults.append(Fault("create", resource, "twice"))
    launcher, spec = world.launcher(), world.spec("wait")
    handle = launcher.launch(spec)
    launcher.launch(spec)
    assert len(world.cluster.jobs()) == 1
    (world.run_dir / "go").touch()
    assert ended(launcher, handle).state == "succeeded"
    assert len(world.started()) == 2
    world.assert_nothing_left()


def case_api_gone_for_longer(world: World) -> None:
    """It raises instead of guessing; what runs goes on, and is found again."""
    launcher, spec = world.launcher(retry_seconds=0.5), world.spec("wait")
    handle = launcher.launch(spec)
    until(world.both_started)
    fault = Fault("any", "any", times=1000)
    world.cluster.api.faults.append(fault)
    with pytest.raises(ConnectionError, match="HTTP 503"):
        until(lambda: launcher.poll(handle).state != "running")
    fault.times = 0
    (world.run_dir / "go").touch()
    assert ended(launcher, handle).state == "succeeded"
    world.assert_nothing_left()


def case_queue(world: World) -> None:
    """Time in the queue is not placement time; hosts that the queue takes back are a loss."""
    world.cluster.admits = False
    launcher = world.launcher(placement_seconds=2, queue="gpu")
    handle = launcher.launch(world.spec("polite"))
    time.sleep(3)
    assert launcher.poll(handle) == Status("running", waits_for="2 of 2 nodes wait: the queue has not admitted it yet")
    assert not world.cluster.pods()
    world.cluster.admits = True
    until(world.both_started)
    assert launcher.poll(handle) == Status("running")
    world.cluster.take_back(world.cluster.jobs()[0])
    assert ended(launcher, handle).kind == "host_lost"
    world.assert_nothing_left()


def case_refused_by_the_api(world: World) -> None:
    """A name that somebody else has is left alone; a quota of Jobs is told before anything runs."""
    launcher, spec = world.launcher(), world.spec("fine")
    world.cluster.api.faults.append(Fault("create", "services", status=403, message="exceeded quota: services"))
    with pytest.raises(LaunchFailed) as failed:
        launcher.launch(spec)
    assert failed.value.status.kind == "quota"
    world.assert_nothing_left()


def case_training(world: World) -> None:
    """The same training on two nodes as on two local ranks ends in the same state."""
    local = _trained(world, "local", Launch(accelerator="cpu", devices=2), LocalLauncher())
    remote = _trained(world, "remote", Launch(accelerator="cpu", devices=1, num_nodes=2), world.launcher())
    assert remote.state_sha256 == local.state_sha256
    world.assert_nothing_left()


def train_demo(world: World, demo: Demo) -> Trained:
    """The demo's own training as a Job of two pods."""
    trained = demo.trained(world.run_dir.parent, world.launcher(), DEMO_ON_TWO_NODES)
    world.assert_nothing_left()
    return trained


def calls_of_watching(world: World, runs: int, poll_seconds: float, seconds: float) -> list[tuple[str, str]]:
    """What the API is asked while one process watches ``runs`` attempts, each with a launcher of its own."""
    world.cluster.hosts = []
    watched = []
    for number in range(runs):
        spec = LaunchSpec(("fine",), world.run_dir.parent / f"run-{number}", new_attempt(), "eks_node", TWO_NODES)
        launcher = world.launcher(poll_seconds=poll_seconds, placement_seconds=600)
        job, *_ = manifests(launcher.work_of(spec), launcher.settings, launcher.hardware)
        world.cluster.api.store.put("jobs", job)
        watched.append((launcher, Handle(job["metadata"]["name"], spec, time.time())))
    until(lambda: len(world.cluster.pods()) == 2 * runs)
    world.cluster.api.calls.clear()
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        for launcher, handle in watched:
            assert launcher.poll(handle).waits_for.startswith("2 of 2 nodes wait: Unschedulable")
        time.sleep(poll_seconds / 10)
    return list(world.cluster.api.calls)


def _trained(world: World, name: str, launch: Launch, launcher: Any) -> TrainResult:
    run_dir = world.run_dir.parent / name
    run_dir.mkdir()
    arguments = ("train", str(world.recipe), "--data", str(world.delivery), "--run-dir", str(run_dir),
                 "--set", f"launch.num_nodes={launch.num_nodes}",
                 "--set", f"launch.devices={launch.devices}")  # fmt: skip
    spec = LaunchSpec(arguments, run_dir, new_attempt(), launch=launch, port=free_port())
    run_to_end(dg.build_asset_context(), launcher, spec)
    return TrainResult.model_validate_json((run_dir / "result.json").read_bytes())


def _launcher(kubeconfig: Path, store: Path, hardware: Hardware, **backend: Any) -> EksLauncher:
    given = {"kubeconfig": kubeconfig, "claim_path": store, "python": sys.executable,
             "poll_seconds": 0.2, **backend}  # fmt: skip
    return EksLauncher(Settings.model_validate(given), IMAGE, hardware, store, store, network_interface="lo")


def _own_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def _orchestrate(kubeconfig: str, run_dir: str, attempt: str) -> None:
    """What a Dagster step does, in a process of its own."""
    place = Path(run_dir)
    launcher = _launcher(Path(kubeconfig), place.parent, Hardware(instance_type="m5.large"))
    spec = LaunchSpec(("wait", run_dir), place, attempt, "eks_node", TWO_NODES)
    run_to_end(dg.build_asset_context(), launcher, spec)


CASES: dict[str, Callable[[World], None]] = {
    name.removeprefix("case_"): value for name, value in list(globals().items()) if name.startswith("case_")
}

if __name__ == "__main__":
    _orchestrate(**json.loads(sys.argv[1]))
