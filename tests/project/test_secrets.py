"""What the launchers ask of their backends, and leave behind, shows no secret of the process that launches."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.sagemaker_host import why_not
from tests.planted import ENVIRONMENT, SECRETS, found_below, found_in_value
from tests.training_assets.launchers.ecs_world import SETTINGS, launcher_at, spec_at
from tests.training_assets.launchers.eks_cases import IMAGE
from tests.training_assets.launchers.sagemaker_cases import CASES
from tests.training_assets.launchers.sagemaker_world import World, world
from tests.training_assets.launchers.test_eks_manifest import spec_of
from training_assets.launchers.eks.launcher import EksLauncher
from training_assets.launchers.eks.manifest import manifests
from training_assets.launchers.eks.settings import Settings
from training_assets.launchers.environment import inherited
from training_assets.profiles.hardware import Hardware

ARN = "arn:aws:secretsmanager:us-east-1:000000000000:secret:wandb"


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def asked_of_ecs(place: Path) -> list[Any]:
    """The profile names a secret by where it is kept: ECS is told that, and fetches it."""
    launcher = launcher_at(place, SETTINGS.model_copy(update={"secrets": {"WANDB_API_KEY": ARN}}))
    return [launcher._definition, *launcher._requests(spec_at(place, "a1"))]


def asked_of_eks(place: Path) -> list[Any]:
    hardware = Hardware(instance_type="p4d.24xlarge")
    settings = Settings.model_validate({"priority_class": "training"})
    launcher = EksLauncher(settings, IMAGE, hardware, place, Path("/fsx/store"), "eth0")
    spec = replace(spec_of(project="cars"), run_dir=place / "tiny-abc12345")
    return [*manifests(launcher.work_of(spec), settings, hardware)]


@pytest.mark.parametrize("asked_of", [asked_of_ecs, asked_of_eks], ids=["ecs", "eks"])
def test_what_is_asked_for_shows_no_secret(asked_of: Callable[[Path], list[Any]], tmp_path: Path) -> None:
    asked = asked_of(tmp_path)
    assert not found_in_value(asked)
    assert found_below([tmp_path]) == {}
    if asked_of is asked_of_ecs:
        assert ARN in str(asked), "where it is kept may be said"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        # The emulator takes any key: the planted one signs what the launcher sends.
        os.environ["AWS_SECRET_ACCESS_KEY"] = SECRETS["AWS_SECRET_ACCESS_KEY"]
        os.environ["AWS_SESSION_TOKEN"] = SECRETS["AWS_SESSION_TOKEN"]
        yield made


@pytest.mark.slow
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "")
def test_a_job_that_ran_and_failed_shows_none_in_its_description_its_logs_and_its_store(cloud: World) -> None:
    CASES["crash"](cloud)
    (job,) = cloud.cloud.jobs.values()
    assert not found_in_value(job.described)
    assert any(path.stat().st_size for path in cloud.store.rglob("*.log"))
    assert found_below([cloud.place]) == {}


def test_what_ranks_on_this_machine_inherit_shows_none() -> None:
    passed = inherited(os.environ)
    assert passed
    assert not found_in_value(passed)
