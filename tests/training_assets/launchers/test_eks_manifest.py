"""What is sent to Kubernetes: strictly valid, within the rules that no schema says, and what a gang needs."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.kubernetes_rules import (
    SERVICE_NAME,
    beyond_baseline,
    beyond_restricted,
    unwise,
    violations,
)
from tests.training_assets.launchers.eks_cases import IMAGE
from trainer.contract.train_config import Launch
from training_assets.launchers.base import LaunchSpec
from training_assets.launchers.eks.launcher import EksLauncher
from training_assets.launchers.eks.manifest import job_name, literal, manifests, owned_by, run_label, selector
from training_assets.launchers.eks.settings import Settings
from training_assets.profiles.hardware import Hardware

Object = dict[str, Any]
ATTEMPT = "20260901t101112-abc123"
UID = "6d1f8a1e-0000-4000-8000-000000000000"


def spec_of(run: str = "tiny-abc12345", nodes: int = 2, **other: Any) -> LaunchSpec:
    launch = Launch(num_nodes=nodes, max_run_seconds=3600)
    return LaunchSpec(("train", "r.yaml"), Path("/fsx/store/runs") / run, ATTEMPT, launch=launch, **other)


def objects(
    spec: LaunchSpec | None = None, instance: str = "p4d.24xlarge", spot: bool = False, **backend: Any
) -> tuple[Object, Object, Object]:
    settings = Settings.model_validate({"priority_class": "training", **backend})
    hardware, store = Hardware(instance_type=instance, spot=spot), Path("/fsx/store")
    launcher = EksLauncher(settings, IMAGE, hardware, store, store, "eth0")
    return manifests(launcher.work_of(spec or spec_of(project="cars")), settings, hardware)


def pod_of(job: Object) -> Object:
    return job["spec"]["template"]["spec"]


@pytest.mark.parametrize("nodes", [1, 2, 16])
@pytest.mark.parametrize("instance", ["m5.large", "g5.xlarge", "p4d.24xlarge"])
@pytest.mark.parametrize("queue", [None, "gpu"])
def test_every_object_is_strictly_valid_within_the_rules_and_under_restricted(
    nodes: int, instance: str, queue: str | None
) -> None:
    job, *dependents = objects(spec_of(nodes=nodes), instance, queue=queue)
    owned = [owned_by({**job, "metadata": {**job["metadata"], "uid": UID}}, one) for one in dependents]
    assert [violations(one) for one in (job, *owned)] == [[], [], []]
    assert unwise(job) == []
    assert beyond_restricted(pod_of(job)) == []
    assert job["spec"]["suspend"] is bool(queue)


def test_a_node_gets_all_devices_of_its_host_in_requests_and_limits() -> None:
    job, *_ = objects()
    resources = pod_of(job)["containers"][0]["resources"]
    devices = {"nvidia.com/gpu": "8", "vpc.amazonaws.com/efa": "4", "hugepages-2Mi": "5120Mi"}
    assert devices.items() <= resources["requests"].items()
    assert devices.items() <= resources["limits"].items()
    assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_one_node_alone_takes_no_network_devices_and_no_place_beside_others() -> None:
    job, *_ = objects(spec_of(nodes=1))
    assert "vpc.amazonaws.com/efa" not in pod_of(job)["containers"][0]["resources"]["limits"]
    assert "affinity" not in pod_of(job)


def test_a_deadline_leaves_the_nodes_time_to_come_and_to_end_by_themselves() -> None:
    spec = spec_of()
    assert objects(spec)[0]["spec"]["activeDeadlineSeconds"] == 3600 + 600 + 20 * 60
    endless = replace(spec, launch=Launch(num_nodes=2))
    assert "activeDeadlineSeconds" not in objects(endless)[0]["spec"]


@pytest.mark.parametrize(
    ("spot", "groups", "label"),
    [
        (True, "managed", {"eks.amazonaws.com/capacityType": "SPOT"}),
        (False, "managed", {"eks.amazonaws.com/capacityType": "ON_DEMAND"}),
        (True, "karpenter", {"karpenter.sh/capacity-type": "spot"}),
    ],
)
def test_hosts_are_of_the_kind_that_is_paid_for(spot: bool, groups: str, label: dict[str, str]) -> None:
    job, *_ = objects(spot=spot, node_groups=groups, node_selector={"pool": "a"})
    wanted = {"node.kubernetes.io/instance-type": "p4d.24xlarge", "pool": "a", **label}
    assert pod_of(job)["nodeSelector"] == wanted


@pytest.mark.parametrize("run", ["a" * 90, "3d-lanes", "Under_Score.dots", "ü", "x" * 40 + "-" * 10])
def test_names_are_host_names_and_service_names_whatever_the_run_is_called(run: str) -> None:
    spec = spec_of(run, nodes=100)
    job, service, policy = objects(spec)
    assert SERVICE_NAME.fullmatch(f"{job_name(spec)}-{spec.nodes - 1}")
    assert {one["metadata"]["name"] for one in (job, service, policy)} == {job_name(spec)}
    assert violations(job) == violations(service) == []


def test_names_tell_runs_and_attempts_apart_also_when_they_are_cut() -> None:
    long = [spec_of("a" * 90), spec_of("a" * 91), replace(spec_of("a" * 90), attempt="20260901t101112-abc124")]
    assert len({job_name(spec) for spec in long}) == 3
    elsewhere = replace(spec_of(), run_dir=Path("/fsx/other/runs/tiny-abc12345"))
    assert run_label(elsewhere) != run_label(spec_of())


def test_only_pods_of_the_attempt_reach_each_other() -> None:
    _, service, policy = objects()
    assert service["spec"]["selector"] == selector(spec_of())
    (rule,) = policy["spec"]["ingress"]
    assert rule == {"from": [{"podSelector": policy["spec"]["podSelector"]}]}
    assert policy["spec"]["podSelector"]["matchLabels"] == selector(spec_of())


def test_secrets_go_by_name_and_dollars_are_not_expanded() -> None:
    spec = spec_of(environment={"PRICE": "$(HOME) costs $5"})
    job, *_ = objects(spec, secrets={"WANDB_API_KEY": "wandb/api-key"})
    entries = {entry["name"]: entry for entry in pod_of(job)["containers"][0]["env"]}
    reference = {"secretKeyRef": {"name": "wandb", "key": "api-key"}}
    assert entries["WANDB_API_KEY"] == {"name": "WANDB_API_KEY", "valueFrom": reference}
    assert entries["PRICE"]["value"] == "$$(HOME) costs $$5"
    assert literal("a") == "a"


def test_a_node_knows_its_pods_address_and_the_master_port() -> None:
    job, *_ = objects()
    container = pod_of(job)["containers"][0]
    assert {"name": "TRAINING_ASSETS_NODE_ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}} in (
        container["env"]
    )
    assert container["command"][container["command"].index("--port") + 1] == "29500"
    given = pod_of(objects(spec_of(port=31000))[0])["containers"][0]["command"]
    assert given[given.index("--port") + 1] == "31000"


def changed(path: str, value: Any) -> Callable[[Object], None]:
    def change(job: Object) -> None:
        *parents, last = path.split(".")
        place: Any = job
        for part in parents:
            place = place[int(part)] if part.isdecimal() else place[part]
        place[last] = value

    return change


POD, RULES = "spec.template.spec", "spec.podFailurePolicy.rules"
CONTAINER = f"{POD}.containers.0"
REFUSED = {
    "a misspelt field": (changed("spec.backofLimit", 0), "backofLimit"),
    "a wrong type": (changed("spec.backoffLimit", "none"), "none"),
    "replacement before the end": (changed("spec.podReplacementPolicy", "TerminatingOrFailed"), "podReplacementPolicy"),
    "restart on failure": (changed(f"{POD}.restartPolicy", "OnFailure"), "only 'Never'"),
    "restart always": (changed(f"{POD}.restartPolicy", "Always"), "restartPolicy"),
    "success as a failure": (
        changed(f"{RULES}.1.onExitCodes", {"operator": "In", "values": [0], "containerName": "trainer"}),
        "must not be 0",
    ),
    "a bad action": (changed(f"{RULES}.0.action", "Explode"), "Explode"),
    "no such container": (changed(f"{RULES}.1.onExitCodes.containerName", "x"), "no such container"),
    "hugepages without limits": (
        changed(f"{CONTAINER}.resources.limits", {"nvidia.com/gpu": "8", "vpc.amazonaws.com/efa": "4"}),
        "hugepages-2Mi",
    ),
    "fewer devices than asked for": (changed(f"{CONTAINER}.resources.requests", {"nvidia.com/gpu": "9"}), "gpu"),
    "a long name": (changed("metadata.name", "a" * 62), "no more than 63"),
    "a bad label": (changed("metadata.labels", {"training-assets/run": "a" * 64}), "Invalid value"),
    "no such volume": (changed(f"{CONTAINER}.volumeMounts.0.name", "x"), "Not found"),
    "a bad mode": (changed("spec.completionMode", "Ordered"), "Ordered"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_rules_refuse(what: str) -> None:
    change, message = REFUSED[what]
    job = copy.deepcopy(objects()[0])
    change(job)
    assert message in "; ".join(violations(job))


def test_a_capability_beyond_the_baseline_is_seen_in_the_pod_only() -> None:
    job = copy.deepcopy(objects()[0])
    changed(f"{CONTAINER}.securityContext.capabilities", {"add": ["IPC_LOCK"]})(job)
    assert violations(job) == []
    assert "IPC_LOCK" in "; ".join(beyond_baseline(pod_of(job)))


@pytest.mark.parametrize(
    "change",
    [
        changed("spec.backoffLimit", 3),
        changed("spec.parallelism", 1),
        changed(f"{CONTAINER}.image", "trainer:latest"),
        changed(f"{POD}.automountServiceAccountToken", True),
        changed(f"{POD}.terminationGracePeriodSeconds", 30),
    ],
)
def test_what_tears_a_gang_apart_is_unwise_though_it_is_valid(change: Callable[[Object], None]) -> None:
    job = copy.deepcopy(objects()[0])
    change(job)
    assert violations(job) == []
    assert len(unwise(job)) == 1
