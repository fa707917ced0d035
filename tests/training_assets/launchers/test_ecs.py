"""The ECS launcher: every case on ministack whose tasks execute here; what it asks for, and what its checks find."""

import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.training_assets.launchers.ecs_cases import CASES, calls_a_minute
from tests.training_assets.launchers.ecs_world import (
    CREDENTIALS,
    IMAGE,
    REGION,
    SETTINGS,
    Emulated,
    emulated,
    environment,
    launcher_at,
    spec_at,
)
from trainer.contract.errors import ContractError
from trainer.contract.train_config import Launch
from training_assets.launchers import launcher_for
from training_assets.launchers.base import Handle
from training_assets.launchers.ecs.launcher import EcsLauncher, WatchedTasks
from training_assets.launchers.ecs.stops import kind_of, node_state
from training_assets.launchers.ecs.task import run_request, task_definition
from training_assets.profiles import load_profile, parse_profile
from training_assets.profiles.hardware import Hardware

QUICK = {"capacity", "quota", "image_missing", "cancelled_during_start"}
P4 = Hardware(instance_type="p4d.24xlarge", spot=True)
VARIABLES = {
    "TRAINING_ASSETS_TRAINER_IMAGE": IMAGE,
    "TRAINING_ASSETS_EXECUTION_ROLE": SETTINGS.execution_role,
    "TRAINING_ASSETS_TASK_ROLE": SETTINGS.task_role,
    "TRAINING_ASSETS_ARCHIVE": "s3://archive",
    "TRAINING_ASSETS_EVENT_BUS": "training-assets",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    with emulated(tmp_path_factory.mktemp("ecs")) as parts:
        yield parts


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES]
)
def test_case(name: str, cluster: Emulated, tmp_path: Path, recipe: Path, delivery: Path) -> None:
    with cluster.world(tmp_path, recipe=recipe, delivery=delivery) as world:
        CASES[name](world)


def asked_for(hardware: Hardware = P4, **settings: Any) -> dict[str, Any]:
    return task_definition(SETTINGS.model_copy(update=settings), IMAGE, hardware, Path("/fsx"))


def test_a_node_gets_what_a_training_on_gpus_and_efa_needs() -> None:
    definition = asked_for(secrets={"WANDB_API_KEY": "arn:aws:secretsmanager:us-east-1:000000000000:secret:wandb"})
    (container,) = definition["containerDefinitions"]
    linux = container["linuxParameters"]
    assert definition["networkMode"] == "host"
    assert container["resourceRequirements"] == [{"type": "GPU", "value": "8"}]
    assert [device["hostPath"] for device in linux["devices"]] == [f"/dev/infiniband/uverbs{n}" for n in range(4)]
    assert linux["initProcessEnabled"]
    assert linux["sharedMemorySize"] > 500_000  # MiB
    assert {limit["name"]: limit["hardLimit"] for limit in container["ulimits"]} == {
        "memlock": -1, "stack": 67108864, "nofile": 65536}  # fmt: skip
    assert container["stopTimeout"] == 120
    assert container["environment"] == [{"name": "FI_EFA_USE_HUGE_PAGE", "value": "0"}]
    assert [secret["name"] for secret in container["secrets"]] == ["WANDB_API_KEY"]
    assert definition["volumes"][0]["host"]["sourcePath"] == container["mountPoints"][0]["containerPath"] == "/fsx"
    assert definition["executionRoleArn"] != definition["taskRoleArn"]


def test_the_request_is_one_that_boto3_accepts_and_names_the_run_everywhere() -> None:
    spec = spec_at(Path("/fsx/store/run-1"), "20260101t000000-abcdef")
    request = run_request(SETTINGS, P4, "family", spec, 1, ["python"], {"A": "b"})
    client = boto3.client("ecs", region_name=REGION)
    for operation, asked in (("RunTask", request), ("RegisterTaskDefinition", asked_for())):
        shape = client.meta.service_model.operation_model(operation).input_shape
        report = boto3.session.botocore.validate.ParamValidator().validate(asked, shape)
        assert not report.has_errors(), report.generate_report()
    tags = {tag["key"]: tag["value"] for tag in request["tags"]}
    assert tags == {
        "training-assets:run": "run-1", "training-assets:attempt": spec.attempt,
        "training-assets:project": "tests", "training-assets:node": "1"}  # fmt: skip
    assert request["startedBy"] == spec.attempt
    assert request["capacityProviderStrategy"] == [{"capacityProvider": SETTINGS.spot_capacity_provider, "weight": 1}]
    assert [constraint["type"] for constraint in request["placementConstraints"]] == ["distinctInstance", "memberOf"]
    other = run_request(SETTINGS, P4, "family", spec, 0, ["python"], {"A": "b"})
    assert other["clientToken"] != request["clientToken"]


def test_the_family_is_the_same_for_the_same_content_alone() -> None:
    assert asked_for()["family"] == asked_for()["family"]
    assert asked_for()["family"] != asked_for(log_group="/other")["family"]


def test_an_override_that_ecs_would_not_take_is_refused_before_anything_starts(tmp_path: Path) -> None:
    spec = spec_at(tmp_path, "a1", environment={"LONG": "x" * 8000})
    with pytest.raises(ContractError, match=r"found \d+ characters, of which 8000 are LONG, expected at most 8192"):
        launcher_at(tmp_path).launch(spec)


def test_more_devices_than_the_instances_have_are_refused(tmp_path: Path) -> None:
    launch = Launch(accelerator="cuda", devices=16, num_nodes=2)
    with pytest.raises(ContractError, match="no more than the GPUs"):
        launcher_at(tmp_path, hardware=P4).launch(spec_at(tmp_path, "a1", launch=launch))


def test_an_attempt_costs_all_its_nodes() -> None:
    estimate = launcher_at(Path("/fsx"), hardware=P4).estimate(spec_at(Path("/fsx/run"), "a1"))
    assert (estimate.nodes, estimate.gpus, estimate.usd_per_hour) == (2, 16, 22.0)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("SpotInterruption: Your Spot Task was interrupted.", "spot"),
        ("TerminationNotice: Host EC2 (instance i-1) terminated.", "host_lost"),
        ("TaskFailedToStart: CannotPullContainerError: pull image manifest has been retried 1 time(s)", "image"),
        ("EssentialContainerExited: OutOfMemoryError: Container killed due to memory usage", "out_of_memory"),
        ("TaskFailedToStart: ResourceInitializationError: unable to pull secrets or registry auth", "bad_input"),
        ("TaskFailedToStart: CannotStartContainerError: exec: python: executable file not found", "bad_input"),
        ("TaskFailedToStart: RESOURCE:GPU", "capacity"),
        ("AGENT", "capacity"),
        ("TaskFailedToStart: No Container Instances were found in your capacity provider", "capacity"),
        ("VcpuLimitExceeded: you have requested more vCPU capacity than your current vCPU limit", "quota"),
        ("LimitExceededException: the limit was exceeded", "quota"),
        ("EssentialContainerExited: Essential container in task exited", None),
        ("UserInitiated: Task stopped by user", None),
    ],
)
def test_what_ecs_says_is_told_apart(said: str, kind: str | None) -> None:
    assert kind_of(said, spot=False) == kind


def test_a_spot_instance_that_is_terminated_was_taken_away() -> None:
    assert kind_of("Host EC2 (instance i-1) terminated.", spot=True) == "spot"


def test_a_task_that_ecs_does_not_know_yet_is_waited_for_and_one_that_it_forgot_is_lost(tmp_path: Path) -> None:
    handle = Handle("a1", spec_at(tmp_path, "a1"), 0.0, ("arn:0", "arn:1"))
    assert node_state(handle, 0, None, spot=False, seconds=5).state == "pending"
    lost = node_state(handle, 0, None, spot=False, seconds=4000)
    assert (lost.state, lost.exit_code) == ("ended", None)


def test_many_attempts_are_watched_with_few_calls() -> None:
    calls: list[list[str]] = []

    def describe(arns: Iterable[str]) -> dict[str, Any]:
        calls.append(list(arns))
        return {arn: {"taskArn": arn, "lastStatus": "RUNNING"} for arn in calls[-1]}

    watched, attempts = WatchedTasks(describe, every=3600), [[f"arn:{n}:0", f"arn:{n}:1"] for n in range(100)]
    watched.of([arn for attempt in attempts for arn in attempt])
    threads = [threading.Thread(target=watched.of, args=(attempt,)) for attempt in attempts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


@pytest.mark.slow
def test_ten_attempts_are_watched_with_the_calls_of_one(tmp_path: Path) -> None:
    calls = calls_a_minute(tmp_path, attempts=10, seconds=6)
    assert set(calls) == {"DescribeTasks"}
    assert calls["DescribeTasks"] <= 24  # one every five seconds


def test_the_shipped_profile_launches_on_ecs(tmp_path: Path) -> None:
    profile = load_profile("ecs", {**VARIABLES, "TRAINING_ASSETS_STORE": str(tmp_path)})
    launcher = launcher_for(profile)
    assert isinstance(launcher, EcsLauncher)
    assert launcher.settings.cluster == "training-assets"


def test_a_profile_that_does_not_say_all_is_refused_with_the_fields_that_are_missing() -> None:
    windows, backend = {"start": "2024-01-01"}, SETTINGS.model_dump()
    value = {"inbox": "/in", "store": "/fsx", "recipes": "recipes", "launcher": "ecs", "windows": windows}
    whole = {**value, "image": {"trainer": IMAGE}, "hardware": {"instance_type": "m5.large"}, "backend": backend}

    def of(**other: object) -> None:
        launcher_for(parse_profile({**whole, **other}, Path("p.yaml"), {}))

    of()
    with pytest.raises(ContractError, match="field 'image'"):
        of(image=None)
    with pytest.raises(ContractError, match="field 'task_role'"):
        of(backend={**backend, "task_role": "trainer"})
    with pytest.raises(ContractError, match=r"backend\.spot_capacity_provider"):
        of(backend={**backend, "spot_capacity_provider": None}, hardware={"instance_type": "m5.large", "spot": True})
    with pytest.raises(ContractError, match="this instance type is not known"):
        of(hardware={"instance_type": "m5.enormous"})


@pytest.mark.slow
def test_the_check_finds_what_is_missing_and_starts_nothing(cluster: Emulated, tmp_path: Path) -> None:
    wrong = SETTINGS.model_copy(
        update={
            "capacity_provider": "nobodys",
            "task_role": SETTINGS.task_role + "-of-nobody",
            "log_group": "/nobodys",
            "secrets": {"KEY": f"arn:aws:secretsmanager:{REGION}:000000000000:secret:nobodys"},
        }
    )
    with cluster.world(tmp_path) as world, environment(AWS_ENDPOINT_URL=cluster.emulator, **CREDENTIALS):
        image = pushed(world.aws("ecr"))
        assert launcher_at(tmp_path, image=image).check() == []
        found = {problem.field for problem in launcher_at(tmp_path, wrong).check()}
        elsewhere = SETTINGS.model_copy(update={"cluster": "nobodys"})
        nowhere = launcher_at(tmp_path, elsewhere, image=image).check()
        assert not world.proxy.calls
    assert found == {"backend.capacity_provider", "backend.task_role", "image.trainer", "backend.log_group",
                     "backend.secrets.KEY"}  # fmt: skip
    assert [problem.field for problem in nowhere] == ["backend.cluster"]


def pushed(ecr: Any) -> str:
    """An image in the registry, by its digest."""
    name, manifest = "training-assets/trainer", json.dumps({"schemaVersion": 2, "config": {}, "layers": []})
    uri = ecr.create_repository(repositoryName=name)["repository"]["repositoryUri"]
    image = ecr.put_image(repositoryName=name, imageManifest=manifest, imageTag="1")["image"]
    host = f"{uri.split('.')[0].rpartition('/')[2]}.dkr.ecr.{REGION}.amazonaws.com"
    return f"{host}/{name}@{image['imageId']['imageDigest']}"


def test_without_credentials_the_check_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    problems = launcher_at(tmp_path).check()
    assert problems
    assert all("credentials" in problem.found for problem in problems)
