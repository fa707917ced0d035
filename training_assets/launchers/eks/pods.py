"""What Kubernetes says of an attempt's pods and its Job, as states of nodes. Asks nothing itself.

A Job alone says too little: a dead host's pod stays ``Running``, a quota shows in events only, and when one pod ends
badly the others are deleted too, which must not be taken for its cause.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.contract.nodes import read_address, read_end
from trainer.contract.results import FailureKind
from training_assets.launchers.base import LaunchSpec
from training_assets.launchers.eks.manifest import CONTAINER
from training_assets.launchers.gang import NodeState

Object = Mapping[str, Any]
INDEX = "batch.kubernetes.io/job-completion-index"
IMAGE_WAITS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
NO_SUCH_IMAGE = re.compile(
    r"not found|manifest unknown|denied|unauthorized|forbidden|invalid reference|InvalidImage", re.I
)
"""A registry that says so will say it again; all else may pass, and the kubelet tries again."""

HOST_REASONS = frozenset({"Evicted", "Preempting", "NodeLost", "NodeShutdown", "Shutdown", "Terminated",
                          "UnexpectedAdmissionError", "NodeAffinity"})  # fmt: skip
LOW_MEMORY = re.compile(r"low on resource: memory")


@dataclass(frozen=True)
class Seen:
    """All that is known of an attempt. ``job`` None: it is gone. ``events``: of pods that could not be created.

    ``lost`` is what the loss of a host is called here; ``late``: its nodes should have come by now.
    """

    spec: LaunchSpec
    pods: Sequence[Object]
    job: Object | None
    events: Sequence[Object] = ()
    lost: FailureKind = "host_lost"
    late: bool = False

    @property
    def by_index(self) -> dict[int, Object]:
        """The newest pod of each index."""
        ordered = sorted(self.pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
        return {int(pod["metadata"]["annotations"][INDEX]): pod for pod in ordered}

    @property
    def failure(self) -> Object | None:
        """Why the Job ends, or has ended, badly."""
        return condition(self.job, "Failed") or condition(self.job, "FailureTarget")

    @property
    def ends(self) -> bool:
        """Whether the Job takes its pods away itself."""
        return self.job is None or bool(self.failure) or "deletionTimestamp" in self.job["metadata"]


def plain(pods: Sequence[Object], nodes: int) -> bool:
    """Whether pods alone say all: each node has one that waits, runs or ended well."""
    return len(pods) == nodes and not any(
        "deletionTimestamp" in pod["metadata"]
        or pod["status"].get("phase") in ("Failed", "Unknown")
        or condition(pod, "DisruptionTarget")
        for pod in pods
    )


def states_of(seen: Seen) -> list[NodeState]:
    nodes = range(seen.spec.nodes)
    if condition(seen.job, "Complete"):
        return [NodeState(node, "ended", 0) for node in nodes]
    failure = seen.failure
    if failure and failure.get("reason") == "DeadlineExceeded":
        return [NodeState(node, "ended", None, "deadline", str(failure.get("message"))) for node in nodes]
    pods = seen.by_index
    return [_state(seen, node, pods[node]) if node in pods else _absent(seen, node) for node in nodes]


def condition(thing: Object | None, kind: str) -> Object | None:
    """The condition ``kind`` of a Job or pod, if it holds."""
    conditions = (thing or {}).get("status", {}).get("conditions") or ()
    found: Object | None = next((one for one in conditions if one["type"] == kind and one["status"] == "True"), None)
    return found


def _state(seen: Seen, node: int, pod: Object) -> NodeState:
    status = pod["status"]
    container: Object = next((one for one in status.get("containerStatuses") or () if one["name"] == CONTAINER), {})
    ended = container.get("state", {}).get("terminated")
    if status.get("phase") == "Succeeded":
        return NodeState(node, "ended", 0)
    if ended and ended.get("reason") == "OOMKilled":
        return NodeState(node, "ended", ended["exitCode"], "out_of_memory", "its container's memory ran out")
    if disrupted := _disrupted(seen, pod):
        return NodeState(node, "ended", None, *disrupted)
    if "deletionTimestamp" in pod["metadata"] and not seen.ends:
        return NodeState(node, "ended", None, seen.lost, f"its pod is taken away: {_host(pod)} is lost or drained")
    if ended:
        return NodeState(node, "ended", ended["exitCode"], None, str(ended.get("message") or ended.get("reason", "")))
    if status.get("phase") == "Failed":
        return NodeState(
            node, "ended", None, None, f"{status.get('reason', '')}: {status.get('message', '')}".strip(": ")
        )
    if "running" in container.get("state", {}):
        return NodeState(node, "running")
    return _pending(seen, node, pod, container.get("state", {}).get("waiting") or {})


def _disrupted(seen: Seen, pod: Object) -> tuple[FailureKind, str] | None:
    """Why the cluster, and not the training, ends this pod, if it does."""
    status, said = pod["status"], condition(pod, "DisruptionTarget")
    if said is None and status.get("reason") not in HOST_REASONS and status.get("phase") != "Unknown":
        return None
    why = str((said or {}).get("message") or status.get("message") or "")
    if LOW_MEMORY.search(f"{why} {status.get('message', '')}"):
        return "out_of_memory", f"evicted from {_host(pod)}: {status.get('message') or why}"
    return seen.lost, f"{(said or status).get('reason')} on {_host(pod)}: {why}"


def _pending(seen: Seen, node: int, pod: Object, waiting: Object) -> NodeState:
    reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
    if reason in IMAGE_WAITS:
        hopeless = seen.late or NO_SUCH_IMAGE.search(f"{reason} {message}")
        return NodeState(node, "pending", None, "image" if hopeless else None, f"{reason}: {message}")
    if reason == "CreateContainerConfigError":
        return NodeState(node, "pending", None, "bad_input", f"{reason}: {message}")
    if reason:
        return NodeState(node, "pending", reason=f"{_host(pod)} prepares it ({reason}{message and ': '}{message})")
    conditions = pod["status"].get("conditions") or ()
    placed: Object = next((one for one in conditions if one["type"] == "PodScheduled"), {})
    if placed.get("status") == "False":
        return NodeState(node, "pending", reason=f"{placed.get('reason')}: {placed.get('message')}")
    return NodeState(node, "pending", reason="to be scheduled")


def _absent(seen: Seen, node: int) -> NodeState:
    """Of a node without a pod: it has none yet, or none any more."""
    end = read_end(seen.spec.attempt_dir, node)
    if seen.ends:
        why = "its Job was deleted" if seen.failure is None else str(seen.failure.get("message"))
        kind = seen.lost if "DisruptionTarget" in why else None
        return NodeState(node, "ended", end.exit_code if end else None, kind, why)
    if end or read_address(seen.spec.attempt_dir, node):
        return NodeState(node, "ended", None, seen.lost, "its pod is gone: its host was lost or given to others")
    if seen.job and seen.job["spec"].get("suspend"):
        return NodeState(node, "pending", reason="the queue has not admitted it yet")
    refusal = max(seen.events, key=lambda event: str(event.get("lastTimestamp")), default={})
    message = str(refusal.get("message", ""))
    if "exceeded quota" in message:
        return NodeState(node, "pending", None, "quota", message)
    if "is forbidden" in message:
        return NodeState(node, "pending", None, "bad_input", message)
    return NodeState(node, "pending", reason=message or "its pod is not created yet")


def _host(pod: Object) -> str:
    return str(pod["spec"].get("nodeName") or "its host")
