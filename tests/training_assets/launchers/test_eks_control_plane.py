"""Our manifests and calls on a real API server, where KUBEBUILDER_ASSETS names one.

Jobs do not run pods there (that takes a controller manager and kubelets): the cases of ``eks_cases.py`` need the
emulated cluster, whose rules are held to the real server's answers here.
"""

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.kubernetes_control_plane import ASSETS_VARIABLE, assets, control_plane
from tests.training_assets.launchers.eks_cases import CASES, IMAGE
from tests.training_assets.launchers.test_eks_manifest import REFUSED, objects, spec_of
from trainer.contract.train_config import Launch
from training_assets.launchers.base import Handle, LaunchSpec
from training_assets.launchers.eks.api import Api, Refused, api_of
from training_assets.launchers.eks.launcher import EksLauncher
from training_assets.launchers.eks.manifest import job_name
from training_assets.launchers.eks.settings import Settings
from training_assets.profiles.hardware import Hardware

pytestmark = pytest.mark.slow

Object = dict[str, Any]
NAMESPACE = "training-assets"
CORE, JOBS = f"/api/v1/namespaces/{NAMESPACE}", f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies"
STRICT_DRY_RUN = {"dryRun": "All", "fieldValidation": "Strict"}


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = assets()
    if folder is None:
        pytest.skip(f"needs etcd and kube-apiserver in the directory that {ASSETS_VARIABLE} names")
    with control_plane(folder, tmp_path_factory.mktemp("control-plane")) as path:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        for where, thing in (
            ("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}),
            (f"{CORE}/serviceaccounts", {"kind": "ServiceAccount", "metadata": {"name": "trainer"}}),
        ):
            real(path).request("POST", where, body={"apiVersion": "v1", **thing})
        yield path


def real(kubeconfig: Path) -> Api:
    return api_of(kubeconfig, "real", 30.0)


@pytest.fixture
def api(kubeconfig: Path) -> Api:
    return real(kubeconfig)


@pytest.fixture
def launcher(kubeconfig: Path, tmp_path: Path) -> EksLauncher:
    given = {"kubeconfig": kubeconfig, "context": "real", "claim_path": tmp_path, "retry_seconds": 30.0}
    hardware = Hardware(instance_type="p4d.24xlarge")
    return EksLauncher(Settings.model_validate(given), IMAGE, hardware, tmp_path, tmp_path, "eth0")


@pytest.mark.parametrize("nodes", [1, 2, 16])
@pytest.mark.parametrize("queue", [None, "gpu"])
def test_all_objects_are_accepted_strictly(api: Api, nodes: int, queue: str | None) -> None:
    job, service, policy = objects(spec_of(nodes=nodes), queue=queue)
    for path, thing in ((JOBS, job), (f"{CORE}/services", service), (POLICIES, policy)):
        accepted = api.request("POST", path, STRICT_DRY_RUN, thing)
        assert accepted["metadata"]["name"] == thing["metadata"]["name"]


def test_the_pods_of_a_job_are_accepted_under_restricted_pod_security(api: Api) -> None:
    template = objects(spec_of(nodes=2))[0]["spec"]["template"]
    spec = {name: value for name, value in template["spec"].items() if name != "priorityClassName"}
    metadata = {**template["metadata"], "name": "one"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    api.request("POST", f"{CORE}/pods", STRICT_DRY_RUN, pod)


@pytest.mark.parametrize("what", REFUSED)
def test_what_our_rules_refuse_the_real_server_refuses(api: Api, what: str) -> None:
    job = copy.deepcopy(objects()[0])
    REFUSED[what][0](job)
    with pytest.raises(Refused) as refused:
        api.request("POST", JOBS, STRICT_DRY_RUN, job)
    assert refused.value.status in (400, 422)


def test_a_launch_creates_each_thing_once_and_the_job_owns_the_rest(
    launcher: EksLauncher, api: Api, tmp_path: Path
) -> None:
    spec = LaunchSpec(("train",), tmp_path / "run-1", "20260901t101112-abc123", launch=Launch(num_nodes=2))
    handle = launcher.launch(spec)
    launcher.launch(spec)
    job = api.get(f"{JOBS}/{handle.id}")
    assert job is not None
    for path in (f"{CORE}/services/{handle.id}", f"{POLICIES}/{handle.id}"):
        owned = api.get(path)
        assert owned is not None
        assert [owner["uid"] for owner in owned["metadata"]["ownerReferences"]] == [job["metadata"]["uid"]]
    attached = launcher.attach(Handle("", spec, time.time()))
    assert attached is not None
    assert attached.id == job_name(spec)
    assert launcher.poll(attached).waits_for == "2 of 2 nodes wait: its pod is not created yet"


def test_check_tells_what_this_cluster_lacks_and_not_what_it_has(launcher: EksLauncher) -> None:
    said = "\n".join(map(str, launcher.check()))
    assert "backend.claim" in said
    assert "backend.namespace" not in said
    assert "backend.service_account" not in said


@pytest.mark.parametrize("case", CASES)
def test_case(kubeconfig: Path, case: str) -> None:
    pytest.skip(f"{case}: pods run only with a controller manager and kubelets, which {ASSETS_VARIABLE} does not bring")
