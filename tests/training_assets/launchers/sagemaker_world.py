"""An emulated SageMaker with a store, and what its cases launch there and ask of it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.sagemaker import CREDENTIALS, SageMaker
from trainer.contract.attempts import ATTEMPT_VARIABLE
from trainer.contract.train_config import Launch
from training_assets.launchers import Handle, LaunchSpec, Status
from training_assets.launchers.base import Launcher, LaunchFailed
from training_assets.launchers.processes import marked
from training_assets.launchers.sagemaker.launcher import SageMakerLauncher
from training_assets.launchers.session import new_attempt
from training_assets.profiles import Profile

REPOSITORY = Path(__file__).parents[3]
PROGRAMS = Path(__file__).parent
FILE_SYSTEM, MOUNT_NAME = "fs-0123456789abcdef0", "abcdefgh"
IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/training-assets/trainer@sha256:{'1' * 64}"
MISSING = IMAGE.replace("1" * 64, "2" * 64)
UNPULLABLE = IMAGE.replace("1" * 64, "3" * 64)
ROLE = "arn:aws:iam::123456789012:role/training-assets-sagemaker"
HOSTS = Launch(accelerator="cpu", num_nodes=2, strategy="ddp_fork")
"""Two hosts that each run the command alone."""

RANKS = Launch(accelerator="cpu", devices=1, num_nodes=2)
HERE = Launch(accelerator="cpu", devices=2)
ON_THIS_MACHINE = {"TRAINING_ASSETS_NODE_ADDRESS": "127.0.0.1"}
"""What tells hosts that all of them are here."""


@dataclass
class World:
    """A server, a store that its hosts see elsewhere, and what is launched there."""

    place: Path
    cloud: SageMaker

    @property
    def store(self) -> Path:
        return self.place / "lustre" / "store"

    def profile(self, spot: bool = False, placement_minutes: float = 5, image: str = IMAGE, **backend: Any) -> Profile:
        settings = {
            "role": ROLE,
            "output": "s3://bucket/output",
            "subnets": ["subnet-0123456789abcdef0"],
            "security_groups": ["sg-0123456789abcdef0"],
            "file_system": {"id": FILE_SYSTEM, "directory": f"/{MOUNT_NAME}/store"},
            "checkpoints": "s3://bucket/checkpoints",
            **backend,
        }
        hardware = {"instance_type": "ml.m5.large", "spot": spot, "placement_minutes": placement_minutes}
        return Profile.model_validate(
            {
                "name": "emulated",
                "inbox": str(self.place / "inbox"),
                "store": self.store,
                "recipes": self.place,
                "launcher": "sagemaker",
                "windows": {"start": "2024-01-01"},
                "image": {"trainer": image},
                "hardware": hardware,
                "backend": settings,
                "mount": "/opt/ml/input/data/store",
                "network_interface": "lo",
            }
        )

    def launcher(self, **profile: Any) -> SageMakerLauncher:
        launcher = SageMakerLauncher.of(self.profile(**profile))
        launcher.poll_seconds = 0.1
        return launcher

    def run_dir(self, name: str) -> Path:
        directory = self.store / "runs" / f"{name}-{new_attempt()[-6:]}"
        directory.mkdir(parents=True)
        return directory

    def spec(self, how: str, run_dir: Path | None = None, launch: Launch = HOSTS, **other: Any) -> LaunchSpec:
        run_dir = run_dir or self.run_dir(how)
        given = {"module": "host", "project": "tests", "environment": ON_THIS_MACHINE}
        return LaunchSpec((how, str(run_dir)), run_dir, new_attempt(), launch=launch, **{**given, **other})


@contextmanager
def world(place: Path) -> Iterator[World]:
    """This process and those it starts reach the server through the environment, as they would reach AWS."""
    (place / "hosts").mkdir()
    with SageMaker(place / "hosts") as cloud:
        cloud.file_systems[FILE_SYSTEM, MOUNT_NAME] = place / "lustre"
        cloud.images = {IMAGE: {"PYTHONPATH": f"{REPOSITORY}:{PROGRAMS}"}, UNPULLABLE: None}
        made = World(place, cloud)
        made.store.mkdir(parents=True)
        before = dict(os.environ)
        os.environ |= {**CREDENTIALS, "AWS_ENDPOINT_URL": cloud.url}
        try:
            yield made
        finally:
            os.environ.clear()
            os.environ |= before


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def ended(launcher: Launcher, handle: Handle, seconds: float = 60) -> Status:
    deadline = time.monotonic() + seconds
    while (status := launcher.poll(handle)).state == "running":
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(launcher.poll_seconds)
    return status


def begun(spec: LaunchSpec) -> list[str]:
    """Which hosts have begun this attempt."""
    path = spec.run_dir / "starts"
    lines = path.read_text().splitlines() if path.exists() else []
    return sorted(line.split()[0] for line in lines if line.split()[1] == spec.attempt)


def until_begun(spec: LaunchSpec, hosts: int = 2) -> None:
    until(lambda: len(begun(spec)) == hosts)


def nothing_is_left(world: World, *specs: LaunchSpec) -> None:
    assert not world.cloud.running
    until(lambda: not [one for spec in specs for one in marked((ATTEMPT_VARIABLE, spec.attempt))], 5)


def ended_as(world: World, launcher: SageMakerLauncher, handle: Handle, kind: str) -> Status:
    """The attempt ends as ``kind``, is stopped as a step does, and leaves nothing."""
    status = ended(launcher, handle)
    assert status.kind == kind, status
    launcher.stop(handle)
    nothing_is_left(world, handle.spec)
    return status


def refused_as(world: World, launcher: SageMakerLauncher, spec: LaunchSpec, kind: str) -> Status:
    with pytest.raises(LaunchFailed) as failed:
        launcher.launch(spec)
    assert failed.value.status.kind == kind, failed.value.status
    nothing_is_left(world, spec)
    return failed.value.status


def training_of(world: World, recipe: Path, delivery: Path, launch: Launch) -> LaunchSpec:
    """The tiny recipe on ``delivery``; all that it reads lies in the store."""
    run_dir = world.run_dir("train")
    (run_dir / "recipe.yaml").write_bytes(recipe.read_bytes())
    data = world.store / "delivery"
    if not data.exists():
        subprocess.run(["cp", "-r", str(delivery), str(data)], check=True)
    sets = ("--set", f"launch.devices={launch.devices}", "--set", f"launch.num_nodes={launch.num_nodes}")
    arguments = ("train", str(run_dir / "recipe.yaml"), "--data", str(data), "--run-dir", str(run_dir), *sets)
    return LaunchSpec(arguments, run_dir, new_attempt(), launch=launch, project="tests", environment=ON_THIS_MACHINE)


STEP = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a script starts in the background
import dagster as dg
from pathlib import Path
from tests.training_assets.launchers.sagemaker_world import HOSTS
from training_assets.launchers import LaunchSpec
from training_assets.launchers.sagemaker.launcher import SageMakerLauncher
from training_assets.launchers.session import run_to_end
from training_assets.profiles import Profile
profile, how, place, attempt = json.loads(sys.argv[1])
launcher = SageMakerLauncher.of(Profile.model_validate(profile))
launcher.poll_seconds = 0.1
spec = LaunchSpec((how, place), Path(place), attempt, module="host", launch=HOSTS, project="tests",
                  environment={"TRAINING_ASSETS_NODE_ADDRESS": "127.0.0.1"})
run_to_end(dg.build_asset_context(), launcher, spec)
"""


def step_of(world: World, spec: LaunchSpec) -> subprocess.Popen[bytes]:
    profile = world.profile().model_dump(mode="json")
    given = json.dumps([profile, *spec.arguments, spec.attempt])
    return subprocess.Popen([sys.executable, "-c", STEP, given], cwd=REPOSITORY, stdout=subprocess.DEVNULL)
