"""The emulated cluster does what was seen of a real control plane, asked with the official client's own methods."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.kubernetes_cluster import Cluster, Host

Object = dict[str, Any]
NAMESPACE = "training-assets"
GROUP = {"run": "a"}
WAIT = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, {}) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster, tmp_path: Path) -> Any:
    from kubernetes import client, config

    configuration = client.Configuration()
    config.load_kube_config(str(cluster.api.kubeconfig(tmp_path / "kubeconfig")), client_configuration=configuration)
    return client.ApiClient(configuration)


def job(*programs: str, **spec: Any) -> Object:
    """Index i runs ``programs[i]``."""
    script = f"import os; exec({list(programs)!r}[int(os.environ['JOB_COMPLETION_INDEX'])])"
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A) $$(A) $(C)"}]
    container = {"name": "trainer", "image": "i", "command": [sys.executable, "-c", script], "env": env}
    template = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [container]}
    rules = [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": "trainer", "operator": "NotIn", "values": [0]}},
    ]
    size = {"completionMode": "Indexed", "completions": len(programs), "parallelism": len(programs)}
    whole = {**size, "backoffLimit": 0, "suspend": False, "podFailurePolicy": {"rules": rules}, **spec}
    whole["template"] = {"metadata": {"labels": GROUP}, "spec": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a", "labels": GROUP}, "spec": whole}


@pytest.fixture
def create(client: Any) -> Callable[..., None]:
    from kubernetes.client import BatchV1Api

    return lambda *programs, **spec: BatchV1Api(client).create_namespaced_job(NAMESPACE, job(*programs, **spec))


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def up(cluster: Cluster, pods: int) -> None:
    until(lambda: sum(path.read_text() == "up\n" for path in cluster.place.glob("*.log")) == pods)


def conditions(client: Any) -> dict[str, Any]:
    from kubernetes.client import BatchV1Api

    status = BatchV1Api(client).read_namespaced_job("a", NAMESPACE).status
    return {one.type: one for one in status.conditions or ()}


def test_one_pods_crash_ends_the_others_and_the_message_names_the_rule(
    cluster: Cluster, client: Any, create: Callable[..., None]
) -> None:
    create(WAIT, "raise SystemExit(3)")
    until(lambda: "Failed" in conditions(client))
    failed = conditions(client)["Failed"]
    assert failed.reason == "PodFailurePolicy"
    assert "failed with exit code 3 matching FailJob rule at index 1" in failed.message
    assert not cluster.processes()


def test_an_eviction_is_told_before_the_exit_code_that_it_leads_to(
    cluster: Cluster, client: Any, create: Callable[..., None]
) -> None:
    from kubernetes.client import CoreV1Api, V1Eviction, V1ObjectMeta

    create(WAIT, WAIT)
    up(cluster, 2)
    name = cluster.pods()[1]["metadata"]["name"]
    eviction = V1Eviction(metadata=V1ObjectMeta(name=name))
    CoreV1Api(client).api_client.call_api(
        f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction", "POST", body=eviction, auth_settings=["BearerToken"]
    )
    until(lambda: "Failed" in conditions(client))
    assert "has condition DisruptionTarget matching FailJob rule at index 0" in conditions(client)["Failed"].message


@pytest.mark.slow
def test_a_dead_host_does_not_fail_the_job_until_its_pod_is_forced_away(
    cluster: Cluster, client: Any, create: Callable[..., None]
) -> None:
    from kubernetes.client import CoreV1Api

    create(WAIT, WAIT)
    up(cluster, 2)
    lost = cluster.pods()[1]
    cluster.lose_host(lost)
    until(lambda: "deletionTimestamp" in lost["metadata"])
    time.sleep(0.5)
    assert lost["status"]["phase"] == "Running"
    assert not conditions(client)
    CoreV1Api(client).delete_namespaced_pod(lost["metadata"]["name"], NAMESPACE, grace_period_seconds=0)
    until(lambda: "FailureTarget" in conditions(client))


def test_without_a_gang_scheduler_one_pod_runs_while_the_other_waits(
    cluster: Cluster, create: Callable[..., None]
) -> None:
    cluster.hosts = [Host("only")]
    create(WAIT, WAIT)
    up(cluster, 1)
    assert [pod["status"]["phase"] for pod in cluster.pods()] == ["Running", "Pending"]


@pytest.mark.slow
def test_a_pod_that_does_not_hear_is_killed_after_its_grace(
    cluster: Cluster, client: Any, create: Callable[..., None]
) -> None:
    from kubernetes.client import BatchV1Api

    create(WAIT.replace("lambda *_: sys.exit(75)", "signal.SIG_IGN"))
    up(cluster, 1)
    cluster.pods()[0]["spec"]["terminationGracePeriodSeconds"] = 1
    BatchV1Api(client).delete_namespaced_job("a", NAMESPACE, propagation_policy="Foreground")
    until(lambda: not cluster.jobs())
    assert not cluster.pods()
    assert not cluster.processes()


def test_variables_are_expanded_and_logs_can_be_read(
    cluster: Cluster, client: Any, create: Callable[..., None]
) -> None:
    from kubernetes.client import CoreV1Api

    create("import os; print(os.environ['B'])")
    until(lambda: "Complete" in conditions(client))
    name = cluster.pods()[0]["metadata"]["name"]
    assert CoreV1Api(client).read_namespaced_pod_log(name, NAMESPACE) == "1 $(A) $(C)\n"


def test_a_name_that_is_taken_is_a_conflict_and_a_wrong_job_is_invalid(create: Callable[..., None]) -> None:
    from kubernetes.client.exceptions import ApiException

    create(WAIT, suspend=True)
    with pytest.raises(ApiException) as conflict:
        create(WAIT, suspend=True)
    assert (conflict.value.status, "AlreadyExists" in conflict.value.body) == (409, True)
    with pytest.raises(ApiException) as invalid:
        create(WAIT, podReplacementPolicy="TerminatingOrFailed")
    assert invalid.value.status == 422
