"""The request that SageMaker gets, and what is refused before there is one."""

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from botocore.session import get_session

from tests.emulators.sagemaker_limits import broken_limit, misfit
from tests.training_assets.launchers.sagemaker_world import HOSTS, IMAGE, World
from trainer.contract.errors import ContractError
from training_assets.launchers import LaunchSpec, launcher_for
from training_assets.launchers.gang import NodeState
from training_assets.launchers.sagemaker.job import METRICS, Settings, job_name, request_of
from training_assets.launchers.sagemaker.launcher import SageMakerLauncher
from training_assets.launchers.sagemaker.status import state_of
from training_assets.profiles import load_profile

MODEL = get_session().get_service_model("sagemaker").shape_for("CreateTrainingJobRequest")
MOUNT = PurePosixPath("/opt/ml/input/data/store")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, cloud=None)  # type: ignore[arg-type]  # nothing is sent


def request(world: World, spec: LaunchSpec, start: str = f"{MOUNT}/start.json", **profile: Any) -> dict[str, Any]:
    given = world.profile(**profile)
    assert given.hardware is not None
    return request_of(spec, Settings.model_validate(given.backend), IMAGE, given.hardware, MOUNT, start)


@pytest.mark.parametrize("profile", [{}, {"spot": True}, {"keep_alive_seconds": 600, "output_kms_key": "alias/key"}])
def test_the_request_is_within_what_sagemakers_model_allows(world: World, profile: dict[str, Any]) -> None:
    made = request(world, world.spec("fine"), **profile)
    assert broken_limit(made, MODEL) == ""
    assert misfit(made) == ""


def test_the_store_is_one_channel_that_nodes_may_write_to(world: World) -> None:
    made = request(world, world.spec("fine"))
    (channel,) = made["InputDataConfig"]
    assert channel["ChannelName"] == MOUNT.name
    assert channel["DataSource"]["FileSystemDataSource"]["FileSystemAccessMode"] == "rw"
    assert made["VpcConfig"]["Subnets"]
    assert "RetryStrategy" not in made, "SageMaker would start the attempt again behind our back"
    assert made["ResourceConfig"]["InstanceCount"] == 2


def test_traffic_between_nodes_is_encrypted_unless_told_otherwise(world: World) -> None:
    assert request(world, world.spec("fine"))["EnableInterContainerTrafficEncryption"]
    assert not request(world, world.spec("fine"), encrypt_traffic=False)["EnableInterContainerTrafficEncryption"]


def test_sagemaker_ends_the_job_after_the_nodes_would_have(world: World) -> None:
    spec = world.spec("fine", launch=HOSTS.model_copy(update={"max_run_seconds": 3600.0}))
    stopping = request(world, spec, spot=True)["StoppingCondition"]
    assert spec.deadline is not None
    assert stopping["MaxRuntimeInSeconds"] > spec.deadline
    assert stopping["MaxWaitTimeInSeconds"] == stopping["MaxRuntimeInSeconds"] + 300
    assert request(world, world.spec("fine"))["StoppingCondition"]["MaxRuntimeInSeconds"] == 86_400


def test_spot_checkpoints_lie_with_the_run_so_that_the_next_attempt_finds_them(world: World) -> None:
    spec = world.spec("fine")
    places = {
        request(world, replace(spec, attempt=name), spot=True)["CheckpointConfig"]["S3Uri"] for name in ("a1", "a2")
    }
    assert places == {f"s3://bucket/checkpoints/{spec.run_dir.name}"}


def test_a_month_long_run_and_a_long_path_are_refused(world: World) -> None:
    long = world.spec("fine", launch=HOSTS.model_copy(update={"max_run_seconds": 30 * 86_400.0}))
    with pytest.raises(ContractError, match=r"launch\.max_run_seconds.*28 days[\s\S]*at most 256 characters"):
        request(world, long, start=f"{MOUNT}/{'x' * 256}")


def test_names_are_short_valid_and_one_for_each_attempt(world: World) -> None:
    spec = world.spec("fine")
    assert job_name(spec) == f"training-assets-{spec.run_dir.name}-{spec.attempt}"
    names = set()
    for run in ("Segmentation_of.roads-2026-01-05-" + "x" * 60, "segmentation-of-roads", "segmentation.of.roads"):
        for attempt in ("20260105t120000-abcdef", "20260105t120000-abcdeg"):
            names.add(job_name(replace(spec, run_dir=world.store / run, attempt=attempt)))
    assert len(names) == 6
    assert all(re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name) for name in names)


def test_the_trainers_lines_become_metrics() -> None:
    lines = "  step 120/400 (30%)  loss: total 1.2345  detection 0.5\nepoch 3/10  loss: total 0.9  val: lanes/F1 0.61"
    found = {name: match[1] for name, regex in METRICS.items() if (match := re.search(regex, lines))}
    assert found == {"train:step": "120", "train:epoch": "3", "loss:total": "1.2345", "val:lanes:F1": "0.61"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mount": Path("/fsx/store")}, r"mount': found /fsx/store, expected /opt/ml/input/data/<channel>"),
        ({"hardware": None}, r"hardware\.instance_type': found none"),
        ({"image": None}, r"'image': found none"),
        (
            {"backend": {"file_system": {"id": "fs-1", "directory": "store"}}},
            r"file_system\.id[\s\S]*file_system\.directory",
        ),
    ],
)
def test_a_profile_that_does_not_fit_is_refused_by_field(world: World, change: dict[str, Any], message: str) -> None:
    profile = world.profile()
    backend = {**profile.backend, **change.get("backend", {})}
    with pytest.raises(ContractError, match=message):
        SageMakerLauncher.of(profile.model_copy(update={**change, "backend": backend}))


def test_spot_is_refused_without_checkpoints_and_with_a_warm_pool(world: World) -> None:
    with pytest.raises(ContractError, match=r"backend\.checkpoints"):
        SageMakerLauncher.of(world.profile(spot=True, checkpoints=None))
    with pytest.raises(ContractError, match=r"backend\.keep_alive_seconds"):
        SageMakerLauncher.of(world.profile(spot=True, keep_alive_seconds=60))


def test_the_profile_of_the_repository_can_be_used() -> None:
    names = ("ROLE", "OUTPUT", "SUBNET", "SECURITY_GROUP", "FILE_SYSTEM", "FILE_SYSTEM_DIRECTORY")
    values = ("arn:aws:iam::123456789012:role/r", "s3://bucket/o", "subnet-0", "sg-0",
              "fs-01234567", "/abcdefgh/store")  # fmt: skip
    given = {f"TRAINING_ASSETS_SAGEMAKER_{name}": value for name, value in zip(names, values, strict=True)}
    given |= {"TRAINING_ASSETS_ARCHIVE": "s3://archive", "TRAINING_ASSETS_EVENT_BUS": "training-assets"}
    launcher = launcher_for(load_profile("sagemaker", given | {"TRAINING_ASSETS_TRAINER_IMAGE": IMAGE}))
    assert launcher.there("/fsx/store/runs/r") == "/opt/ml/input/data/store/runs/r"
    estimate = launcher.estimate(LaunchSpec(("train",), Path("/fsx/store/runs/r"), "a", launch=HOSTS))
    assert (estimate.gpus, estimate.nodes) == (8, 2)


def job(status: str, secondary: str, reason: str = "", *before: str) -> dict[str, Any]:
    transitions = [{"Status": one, "StatusMessage": ""} for one in (*before, secondary)]
    return {"TrainingJobName": "j", "TrainingJobStatus": status, "SecondaryStatus": secondary,
            "FailureReason": reason, "SecondaryStatusTransitions": transitions}  # fmt: skip


@pytest.mark.parametrize(
    ("told", "kind", "exit_code"),
    [
        (job("Completed", "Completed"), None, 0),
        (
            job("Failed", "Failed", "CapacityError: Unable to provision requested ML compute capacity."),
            "capacity",
            None,
        ),
        (job("Failed", "Failed", "ResourceLimitExceeded: the account-level service limit"), "quota", None),
        (job("Failed", "Failed", "InternalServerError: We encountered an internal error."), "host_lost", None),
        (job("Failed", "Failed", "ClientError: CannotPullContainerError: pull access denied"), "image", None),
        (job("Failed", "Failed", "ClientError: Please use an instance type with more memory"), "out_of_memory", None),
        (job("Failed", "Failed", "ClientError: Unable to mount the file system"), "crash", None),
        (job("Failed", "Failed", "AlgorithmError: rank 1: CapacityError in my log, exit code: 3"), None, 3),
        (job("Failed", "Failed", "AlgorithmError: , exit code: 137"), None, 137),
        (job("Stopped", "MaxRuntimeExceeded"), "deadline", None),
        (job("Stopped", "MaxWaitTimeExceeded"), "capacity", None),
        (job("Stopped", "MaxWaitTimeExceeded", "", "Training", "Interrupted"), "spot", None),
        (job("InProgress", "Training", "", "Training", "Interrupted", "Starting"), "spot", None),
        (job("Stopped", "Stopped"), None, 75),
    ],
)
def test_what_sagemaker_says_of_an_end_is_told_apart(told: dict[str, Any], kind: str | None, exit_code: int) -> None:
    state = state_of(told, stopped_by_us=False)
    assert (state.state, state.kind, state.exit_code) == ("ended", kind, exit_code)


def test_only_completed_is_a_success() -> None:
    statuses = ("InProgress", "Failed", "Stopping", "Stopped", "Deleting")
    states = [state_of(job(status, status), stopped_by_us=False) for status in statuses]
    assert all(state.ended_badly or state.state != "ended" for state in states)
    assert state_of(job("Stopped", "Stopped"), stopped_by_us=True).kind == "cancelled"


def test_a_job_that_waits_says_what_for() -> None:
    waiting = job("InProgress", "Pending")
    waiting["SecondaryStatusTransitions"][-1]["StatusMessage"] = "waiting for compute capacity"
    expected = NodeState(0, "pending", reason="Pending: waiting for compute capacity")
    assert state_of(waiting, stopped_by_us=False) == expected
    assert state_of(job("InProgress", "Uploading"), stopped_by_us=False).state == "running"
