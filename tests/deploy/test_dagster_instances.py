"""The instances of Dagster on ECS and EKS are those that Dagster loads, and say what is run where."""

from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import kubernetes
import kubernetes_validate
import pytest
import yaml
from dagster._core.instance.ref import InstanceRef
from dagster._core.workspace.config_schema import process_workspace_config
from dagster_aws.ecs import EcsRunLauncher
from dagster_aws.s3 import S3ComputeLogManager
from dagster_k8s import K8sRunLauncher, construct_dagster_k8s_job
from dagster_k8s.container_context import K8sContainerContext

from training_assets.run_coordinator import PrioritizedRunCoordinator

DEPLOY = Path(__file__).parents[2] / "deploy"
HOMES = {"ecs": DEPLOY / "dagster" / "ecs", "eks": DEPLOY / "kustomize" / "base" / "config"}
VARIABLES = {
    "DAGSTER_PG_HOST": "127.0.0.1", "DAGSTER_PG_PORT": "5432", "DAGSTER_PG_DB": "dagster",
    "DAGSTER_PG_USERNAME": "dagster", "DAGSTER_PG_PASSWORD": "none", "DAGSTER_COMPUTE_LOGS_BUCKET": "logs",
    "DAGSTER_RUN_TASK_DEFINITION": "training-assets-run", "DAGSTER_CODE_LOCATION_HOST": "code-location",
    "AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
}  # fmt: skip


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


def settings(backend: str) -> dict[str, Any]:
    return dict(yaml.safe_load((HOMES[backend] / "dagster.yaml").read_text()))


@pytest.fixture
def without_database(tmp_path: Path) -> Any:
    """The instance of a backend but for its database: its connection is tried at once, and another test has one."""

    def load(backend: str) -> dg.DagsterInstance:
        elsewhere = {"storage": {"sqlite": {"base_dir": str(tmp_path / "db")}}}
        (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings(backend) | elsewhere))
        return dg.DagsterInstance.from_config(str(tmp_path))

    return load


@pytest.mark.parametrize("backend", HOMES)
def test_it_differs_from_the_deployment_without_a_platform_only_by_the_platform(backend: str) -> None:
    plain = yaml.safe_load((DEPLOY / "dagster.postgres.yaml").read_text())
    found = settings(backend)
    assert found["storage"]["custom"]["config"]["postgres_db"].pop("params") == {"sslmode": "require"}
    for platform in ("run_launcher", "compute_logs", "local_artifact_storage"):
        found.pop(platform)
    assert found == plain


@pytest.mark.parametrize("backend", HOMES)
def test_dagster_takes_the_database_and_its_variables(backend: str) -> None:
    reference = InstanceRef.from_dir(str(HOMES[backend]))
    config = reference.storage_data.config_dict if reference.storage_data else {}
    assert config["postgres_db"]["hostname"] == {"env": "DAGSTER_PG_HOST"}
    assert config["postgres_db"]["params"] == {"sslmode": "require"}


@pytest.mark.parametrize("backend", HOMES)
def test_the_code_location_is_one_server(backend: str) -> None:
    checked = process_workspace_config(yaml.safe_load((HOMES[backend] / "workspace.yaml").read_text()))
    assert checked.success
    (target,) = checked.value["load_from"]
    assert target["grpc_server"]["port"] == 4000


@pytest.fixture
def aws(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a bucket, and the definition that Terraform makes for runs."""
    bucket = s3.removeprefix("s3://")
    monkeypatch.setenv("DAGSTER_COMPUTE_LOGS_BUCKET", bucket)
    container = {"name": "run", "image": "dagster", "memory": 512}
    boto3.client("ecs").register_task_definition(family="training-assets-run", containerDefinitions=[container])
    return bucket


def test_on_ecs_a_run_is_a_task_of_the_given_definition_on_the_pool_of_services(
    without_database: Any, aws: str
) -> None:
    with without_database("ecs") as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, EcsRunLauncher)
        assert isinstance(instance.run_coordinator, PrioritizedRunCoordinator)
        assert launcher.task_definition.rpartition("/")[2].startswith("training-assets-run:")
        assert launcher.container_name == "run"
        assert launcher.secrets_tags == []
        (strategy,) = launcher.run_task_kwargs["capacityProviderStrategy"]
        assert strategy == {"capacityProvider": "training-assets-services", "weight": 1}


@pytest.mark.parametrize("backend", HOMES)
def test_compute_logs_go_to_the_bucket_and_nothing_is_written_into_the_home(
    backend: str, without_database: Any, aws: str, tmp_path: Path
) -> None:
    before = set(tmp_path.iterdir())
    with without_database(backend) as instance:
        manager = instance.compute_log_manager
        assert isinstance(manager, S3ComputeLogManager)
        with manager.capture_logs(["run", "compute_logs", "step"]):
            print("said by a step")
        found = boto3.client("s3").list_objects_v2(Bucket=aws, Prefix="dagster/").get("Contents", [])
        assert "dagster/storage/run/compute_logs/step.out" in {entry["Key"] for entry in found}
        assert instance.storage_directory().startswith("/tmp/dagster")  # noqa: S108
    assert {path.name for path in set(tmp_path.iterdir()) - before} <= {"dagster.yaml", "db"}


@pytest.fixture
def in_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a pod finds: the API's address and its service account's token."""
    secret = tmp_path / "serviceaccount"
    secret.mkdir()
    (secret / "token").write_text("token")
    (secret / "ca.crt").write_text("certificate")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    loader = kubernetes.config.incluster_config
    monkeypatch.setattr(loader, "SERVICE_TOKEN_FILENAME", str(secret / "token"))
    monkeypatch.setattr(loader, "SERVICE_CERT_FILENAME", str(secret / "ca.crt"))


def test_on_eks_a_run_is_a_job_that_a_strict_cluster_takes(without_database: Any, in_cluster: None) -> None:
    with without_database("eks") as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, K8sRunLauncher)
        context = K8sContainerContext.create_for_run(dg.DagsterRun(job_name="j"), launcher, include_run_tags=False)
        config = context.get_k8s_job_config("images/dagster@sha256:0", launcher)
        arguments = ["dagster", "api", "execute_run"]
        job = construct_dagster_k8s_job(config, arguments, "dagster-run-1", context.run_k8s_config)
    manifest = kubernetes.client.ApiClient().sanitize_for_serialization(job)
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    pod = manifest["spec"]["template"]["spec"]
    assert manifest["spec"]["backoffLimit"] == 0
    assert pod["serviceAccountName"] == "dagster"
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {m["mountPath"] for m in container["volumeMounts"]} >= {"/fsx", "/home/dagster/instance"}
    assert {"configMapRef": {"name": "settings"}} in container["envFrom"]
    assert {"secretRef": {"name": "dagster-postgres"}} in container["envFrom"]
