"""From a specification to the objects that are one attempt on EKS: an Indexed Job, a headless Service, a NetworkPolicy.

One pod a node. ``docs/launching.md`` says why each field is as it is; the API server refused the others.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.contract.nodes import ADDRESS_VARIABLE
from training_assets.launchers.base import LaunchSpec
from training_assets.launchers.eks.settings import Settings
from training_assets.launchers.hardware import instance_of
from training_assets.profiles.hardware import Hardware

Object = dict[str, Any]
RUN, ATTEMPT, PROJECT = "training-assets/run", "training-assets/attempt", "training-assets/project"
MANAGED = {"app.kubernetes.io/managed-by": "training-assets"}
CONTAINER = "trainer"
MASTER_PORT = 29500
GRACE = 110
"""Seconds in which a pod may save its checkpoint; a spot host has 120."""

UNREACHABLE_SECONDS = 60
"""How long a pod stays bound to a host that does not answer."""

LONGEST = 63
CAPACITY = {
    "managed": {"label": "eks.amazonaws.com/capacityType", "spot": "SPOT", "on_demand": "ON_DEMAND"},
    "karpenter": {"label": "karpenter.sh/capacity-type", "spot": "spot", "on_demand": "on-demand"},
}


@dataclass(frozen=True)
class Work:
    """What each node of ``spec`` runs: ``command`` after the interpreter of ``image``, with ``environment``.
    ``active_seconds``: after so long the backend ends it."""

    spec: LaunchSpec
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    active_seconds: float | None


def manifests(work: Work, settings: Settings, hardware: Hardware) -> tuple[Object, Object, Object]:
    """The Job, and what belongs to it: Service and NetworkPolicy, for :func:`owned_by` once it has an identity."""
    return job(work, settings, hardware), service(work.spec, settings), network_policy(work.spec, settings)


def owned_by(owner: Object, dependent: Object) -> Object:
    """``dependent``, to be deleted with ``owner``, which the API server has."""
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": True,
                 "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}  # fmt: skip
    return {**dependent, "metadata": {**dependent["metadata"], "ownerReferences": [reference]}}


def job_name(spec: LaunchSpec) -> str:
    """Also the Service's; with the index of a pod behind it still a host name (63 characters)."""
    longest = LONGEST - len(f"-{spec.nodes - 1}")
    name = _slug(f"{spec.run_dir.name}-{spec.attempt}")
    if not name[:1].isalpha():  # a Service's name begins with a letter
        name = f"run-{name}"
    if len(name) > longest:
        name = f"{name[: longest - 9].rstrip('-')}-{_digest(f'{spec.run_dir}/{spec.attempt}')}"
    return name


def selector(spec: LaunchSpec) -> dict[str, str]:
    """Labels of this attempt's pods, and of no others."""
    return {RUN: run_label(spec), ATTEMPT: _label(spec.attempt)}


def run_label(spec: LaunchSpec) -> str:
    """Two stores may have runs of one name: the whole path counts."""
    return f"{_slug(spec.run_dir.name)[:50].strip('-') or 'run'}-{_digest(str(spec.run_dir))}"


def job(work: Work, settings: Settings, hardware: Hardware) -> Object:
    spec = work.spec
    queue = {"kueue.x-k8s.io/queue-name": settings.queue} if settings.queue else {}
    active = {"activeDeadlineSeconds": math.ceil(work.active_seconds)} if work.active_seconds else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(spec, settings, queue),
        "spec": {
            "completionMode": "Indexed",
            "completions": spec.nodes,
            "parallelism": spec.nodes,
            "suspend": bool(settings.queue),
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            "ttlSecondsAfterFinished": settings.keep_seconds,
            **active,
            "template": {"metadata": _pod_metadata(spec), "spec": _pod(work, settings, hardware)},
        },
    }


def service(spec: LaunchSpec, settings: Settings) -> Object:
    """Gives pods names; without ``publishNotReadyAddresses`` they had none before all are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(spec, settings),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": selector(spec),
            "ports": [{"name": "rendezvous", "port": master_port(spec)}],
        },
    }


def network_policy(spec: LaunchSpec, settings: Settings) -> Object:
    """Only nodes of the attempt reach its nodes: ranks trust whoever connects."""
    own = {"podSelector": {"matchLabels": selector(spec)}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(spec, settings),
        "spec": {**own, "policyTypes": ["Ingress"], "ingress": [{"from": [own]}]},
    }


def master_port(spec: LaunchSpec) -> int:
    return spec.port or MASTER_PORT


def literal(text: str) -> str:
    """``text`` as a command or variable that Kubernetes leaves alone: it would expand ``$(NAME)``."""
    return text.replace("$", "$$")


def _failure_rules() -> list[Object]:
    """A host that is taken away is told before the exit code that its end leaves; each ends all nodes."""
    return [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"containerName": CONTAINER, "operator": "NotIn", "values": [0]}},
        {"action": "FailJob", "onPodConditions": [{"type": "ConfigIssue", "status": "True"}]},
    ]


def _pod(work: Work, settings: Settings, hardware: Hardware) -> Object:
    spec = work.spec
    return {
        "subdomain": job_name(spec),
        "restartPolicy": "Never",
        "serviceAccountName": settings.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE,
        **({"priorityClassName": settings.priority_class} if settings.priority_class else {}),
        "nodeSelector": _node_selector(settings, hardware),
        "tolerations": _tolerations(),
        **({"affinity": _affinity(spec)} if spec.nodes > 1 else {}),
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": settings.user, "runAsGroup": settings.user, "fsGroup": settings.user,
            "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [
            {"name": "shared-memory",
             "emptyDir": {"medium": "Memory", "sizeLimit": _shared_memory(settings, hardware)}},
            {"name": "store", "persistentVolumeClaim": {"claimName": settings.claim}},
        ],
        "containers": [_container(work, settings, hardware)],
    }  # fmt: skip


def _container(work: Work, settings: Settings, hardware: Hardware) -> Object:
    return {
        "name": CONTAINER,
        "image": work.image,
        "command": [settings.python, *map(literal, work.command)],
        "env": _environment(work, settings),
        "resources": _resources(work.spec, settings, hardware),
        "volumeMounts": [
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108 - the path is the kernel's
            {"name": "store", "mountPath": str(settings.claim_path)},
        ],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _environment(work: Work, settings: Settings) -> list[Object]:
    secrets = [(name, *key.split("/", 1)) for name, key in settings.secrets.items()]
    return [
        {"name": ADDRESS_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        *({"name": name, "value": literal(value)} for name, value in work.environment.items()),
        *({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}} for name, secret, key in secrets),
    ]


def _resources(spec: LaunchSpec, settings: Settings, hardware: Hardware) -> Object:
    """A host has one node of a training, and its own agents: they get a twentieth."""
    instance = instance_of(hardware)
    memory = settings.memory_gib or instance.memory_gib * 0.9 - 1
    cpus = settings.cpus or max(instance.cpus * 0.95 - 0.5, 0.5)
    efa = instance.efa if spec.nodes > 1 else 0
    hugepages = settings.hugepages_mib if settings.hugepages_mib is not None else 5120 if efa else 0
    limits = {"memory": f"{memory * 1024:.0f}Mi"}
    for name, amount in (("nvidia.com/gpu", instance.gpus), ("vpc.amazonaws.com/efa", efa)):
        limits |= {name: str(amount)} if amount else {}
    limits |= {"hugepages-2Mi": f"{hugepages}Mi"} if hugepages else {}
    return {"requests": {"cpu": f"{cpus * 1000:.0f}m", **limits}, "limits": limits}


def _shared_memory(settings: Settings, hardware: Hardware) -> str:
    """It counts as the container's memory: an eighth of the host's."""
    return f"{(settings.shared_memory_gib or instance_of(hardware).memory_gib / 8) * 1024:.0f}Mi"


def _node_selector(settings: Settings, hardware: Hardware) -> dict[str, str]:
    capacity = CAPACITY[settings.node_groups]
    return {
        "node.kubernetes.io/instance-type": hardware.instance_type,
        capacity["label"]: capacity["spot" if hardware.spot else "on_demand"],
        **settings.node_selector,
    }


def _tolerations() -> list[Object]:
    lost = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": UNREACHABLE_SECONDS}
    return [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "node.kubernetes.io/unreachable", **lost},
        {"key": "node.kubernetes.io/not-ready", **lost},
    ]


def _affinity(spec: LaunchSpec) -> Object:
    """All nodes in one zone, each on a host of its own."""

    def required(key: str) -> Object:
        term = {"topologyKey": key, "labelSelector": {"matchLabels": selector(spec)}}
        return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}

    return {
        "podAffinity": required("topology.kubernetes.io/zone"),
        "podAntiAffinity": required("kubernetes.io/hostname"),
    }


def _metadata(spec: LaunchSpec, settings: Settings, labels: Mapping[str, str] | None = None) -> Object:
    return {
        "name": job_name(spec),
        "namespace": settings.namespace,
        "labels": {**_labels(spec), **(labels or {})},
        "annotations": {"training-assets/run-dir": str(spec.run_dir), "training-assets/what": spec.what},
    }


def _pod_metadata(spec: LaunchSpec) -> Object:
    stay = {"karpenter.sh/do-not-disrupt": "true", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    return {"labels": _labels(spec), "annotations": stay}


def _labels(spec: LaunchSpec) -> dict[str, str]:
    project = {PROJECT: _label(spec.project)} if spec.project else {}
    return {**MANAGED, **selector(spec), **project}


def _label(text: str) -> str:
    """``text`` where it is a label's value already."""
    if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", text):
        return text
    return f"{_slug(text)[:50].strip('-') or 'x'}-{_digest(text)}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
