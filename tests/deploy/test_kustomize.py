"""The manifests for EKS: what a strict API server takes, and what it takes though it is wrong."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

KUSTOMIZE = Path(__file__).parents[2] / "deploy" / "kustomize"
OVERLAYS = ("production", "trial")
CLUSTER_WIDE = {
    "Namespace",
    "PersistentVolume",
    "PriorityClass",
    "ResourceFlavor",
    "ClusterQueue",
    "ClusterRole",
    "ClusterRoleBinding",
}
CUSTOM = ("kueue.x-k8s.io/", "external-secrets.io/")
Manifest = dict[str, Any]


@pytest.fixture(scope="module", params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[Manifest]:
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl on the PATH (its kustomize)")
    built = subprocess.run(
        ["kubectl", "kustomize", KUSTOMIZE / "overlays" / request.param], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    return list(yaml.safe_load_all(built.stdout))


def of(objects: list[Manifest], *kinds: str) -> dict[str, Manifest]:
    return {found["metadata"]["name"]: found for found in objects if found["kind"] in kinds}


def pods(objects: list[Manifest]) -> dict[str, Manifest]:
    return {name: found["spec"]["template"] for name, found in of(objects, "Deployment").items()}


def containers(template: Manifest) -> list[Manifest]:
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


def test_a_strict_api_server_takes_every_object(objects: list[Manifest]) -> None:
    for found in objects:
        if not found["apiVersion"].startswith(CUSTOM):
            kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)


def test_every_object_has_a_name_of_its_own_in_the_one_namespace(objects: list[Manifest]) -> None:
    keys = [(found["kind"], found["metadata"]["name"]) for found in objects]
    assert len(keys) == len(set(keys))
    assert [name for _, name in keys if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name)] == []
    for found in objects:
        expected = None if found["kind"] in CLUSTER_WIDE else "training-assets"
        assert found["metadata"].get("namespace") == expected, found["metadata"]["name"]


def test_every_place_is_filled_from_the_settings(objects: list[Manifest]) -> None:
    settings = of(objects, "ConfigMap")["settings"]["data"]
    others = [found for found in objects if found["kind"] != "ConfigMap"]
    for found in others:
        empty = set(texts(found)) & (set(settings) - {"DAGSTER_IMAGE"})
        assert not empty, f"{found['kind']} {found['metadata']['name']}: {empty}"
    accounts = of(objects, "ServiceAccount")
    for account, role in {"dagster": "DAGSTER_ROLE", "trainer": "TRAINER_ROLE", "secrets": "SECRETS_ROLE"}.items():
        assert accounts[account]["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == settings[role]


def test_the_namespace_holds_pods_to_the_baseline(objects: list[Manifest]) -> None:
    labels = of(objects, "Namespace")["training-assets"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "baseline"


def test_images_are_named_by_digest(objects: list[Manifest]) -> None:
    for template in pods(objects).values():
        for container in containers(template):
            assert re.search(r"@sha256:[0-9a-f]{64}$", container["image"]), container["image"]


def test_pods_keep_to_the_restricted_set_but_for_the_one_that_gives_the_store_its_owner(
    objects: list[Manifest],
) -> None:
    for name, template in pods(objects).items():
        spec = template["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert not [volume for volume in spec["volumes"] if "hostPath" in volume]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec.get("restartPolicy", "Always") == "Always"
        for container in containers(template):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"]["drop"] == ["ALL"]
            assert not context.get("privileged")
            assert container["resources"]["limits"]["memory"]
            if (name, container["name"]) != ("code-location", "own-store"):
                assert "add" not in context["capabilities"]
                assert "runAsUser" not in context


def test_what_pods_name_is_there(objects: list[Manifest]) -> None:
    secrets = {found["spec"]["target"]["name"] for found in of(objects, "ExternalSecret").values()}
    there = {
        "configMap": set(of(objects, "ConfigMap")),
        "secret": secrets,
        "claim": set(of(objects, "PersistentVolumeClaim")),
    }
    for template in pods(objects).values():
        spec = template["spec"]
        assert spec["serviceAccountName"] in of(objects, "ServiceAccount")
        assert spec["priorityClassName"] in of(objects, "PriorityClass")
        for volume in spec["volumes"]:
            assert "configMap" not in volume or volume["configMap"]["name"] in there["configMap"]
            assert (
                "persistentVolumeClaim" not in volume or volume["persistentVolumeClaim"]["claimName"] in there["claim"]
            )
        for source in spec["containers"][0]["envFrom"]:
            assert source.get("configMapRef", {"name": "settings"})["name"] in there["configMap"]
            assert source.get("secretRef", {"name": "dagster-postgres"})["name"] in there["secret"]


def test_a_service_is_for_one_deployment_and_a_port_that_it_has(objects: list[Manifest]) -> None:
    for service in of(objects, "Service").values():
        selected = service["spec"]["selector"].items()
        (template,) = [found for found in pods(objects).values() if selected <= found["metadata"]["labels"].items()]
        ports = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"


def test_there_is_one_daemon_and_the_old_one_ends_first(objects: list[Manifest]) -> None:
    daemon = of(objects, "Deployment")["daemon"]["spec"]
    assert (daemon["replicas"], daemon["strategy"]) == (1, {"type": "Recreate"})


def test_nobody_outside_is_given_a_way_in(objects: list[Manifest]) -> None:
    assert not of(objects, "Ingress")
    policies = of(objects, "NetworkPolicy")
    deny = policies.pop("default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ways_in = {name: found["spec"] for name, found in policies.items() if "Ingress" in found["spec"]["policyTypes"]}
    assert set(ways_in) == {"code-location"}
    for spec in ways_in.values():
        for rule in spec["ingress"]:
            assert all(set(peer) == {"podSelector"} for peer in rule["from"])


def test_no_policy_lets_pods_at_the_instance_metadata(objects: list[Manifest]) -> None:
    for policy in of(objects, "NetworkPolicy").values():
        for rule in policy["spec"].get("egress", []):
            for peer in rule["to"]:
                block = peer.get("ipBlock", {"cidr": "10.0.0.0/8"})
                assert block["cidr"] == "10.0.0.0/8" or "169.254.0.0/16" in block["except"]


def test_dagster_may_do_in_its_namespace_what_its_launchers_call_and_no_more(objects: list[Manifest]) -> None:
    (everywhere,) = of(objects, "ClusterRole").values()
    assert everywhere["rules"] == [
        {"apiGroups": ["scheduling.k8s.io"], "resources": ["priorityclasses"], "verbs": ["get"]}
    ]
    (role,) = of(objects, "Role").values()
    may = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert not [entry for entry in may if "*" in entry]
    assert {
        ("jobs", "create"),
        ("jobs", "delete"),
        ("pods", "list"),
        ("pods/log", "get"),
        ("events", "list"),
        ("networkpolicies", "create"),
    } <= may
    assert not {("pods", "create"), ("pods/exec", "create"), ("secrets", "get"), ("jobs", "patch")} & may
    (binding,) = of(objects, "RoleBinding").values()
    assert [subject["name"] for subject in binding["subjects"]] == ["dagster"]


def test_training_code_gets_no_token_of_the_cluster(objects: list[Manifest]) -> None:
    assert of(objects, "ServiceAccount")["trainer"]["automountServiceAccountToken"] is False


def test_the_volume_is_the_file_system_that_is_there_and_outlives_its_claim(objects: list[Manifest]) -> None:
    (volume,) = of(objects, "PersistentVolume").values()
    (claim,) = of(objects, "PersistentVolumeClaim").values()
    settings = of(objects, "ConfigMap")["settings"]["data"]
    assert volume["spec"]["csi"]["volumeHandle"] == settings["FILE_SYSTEM"]
    assert volume["spec"]["csi"]["volumeAttributes"]["mountname"] == settings["FILE_SYSTEM_NAME"]
    assert volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    assert volume["spec"]["accessModes"] == claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert claim["spec"]["storageClassName"] == volume["spec"]["storageClassName"] == ""


def test_a_training_finds_what_its_job_names(objects: list[Manifest]) -> None:
    assert "trainer" in of(objects, "ServiceAccount")
    assert "fsx" in of(objects, "PersistentVolumeClaim")
    assert "training" in of(objects, "PriorityClass")
    assert {"gpu", "gpu-spot"} == set(of(objects, "LocalQueue"))


def test_a_queue_counts_all_that_a_training_asks_for_and_tears_no_gang_apart(objects: list[Manifest]) -> None:
    flavors = of(objects, "ResourceFlavor")
    queues = of(objects, "ClusterQueue")
    for name, local in of(objects, "LocalQueue").items():
        queue = queues[local["spec"]["clusterQueue"]]["spec"]
        assert queue["preemption"] == {"withinClusterQueue": "Never"}
        (group,) = queue["resourceGroups"]
        asked = ["cpu", "memory", "nvidia.com/gpu", "vpc.amazonaws.com/efa", "hugepages-2Mi"]
        assert group["coveredResources"] == asked
        for flavor in group["flavors"]:
            assert [resource["name"] for resource in flavor["resources"]] == asked
            assert flavors[flavor["name"]]["spec"]["nodeLabels"] == {"training-assets/pool": name}
    assert of(objects, "PriorityClass")["training"]["preemptionPolicy"] == "Never"


def test_every_overlay_has_all_the_settings_that_terraform_gives() -> None:
    outputs = (KUSTOMIZE.parent / "terraform" / "roots" / "eks" / "outputs.tf").read_text()
    given = set(re.findall(r"^    ([A-Z_]+) +=", outputs, flags=re.MULTILINE))
    for overlay in OVERLAYS:
        lines = (KUSTOMIZE / "overlays" / overlay / "settings" / "settings.env").read_text().splitlines()
        named = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
        assert named == given | {"DAGSTER_IMAGE"}
