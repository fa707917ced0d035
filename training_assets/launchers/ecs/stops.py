"""What ECS says of a task, as the state of a node; and what its refusals mean.

Amazon ECS Developer Guide, "Stopped tasks error messages" and "API failure reasons"; Amazon EC2, "Error codes".
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.contract.nodes import read_end
from trainer.contract.results import FailureKind
from training_assets.launchers.base import Handle
from training_assets.launchers.gang import NodeState

Task = Mapping[str, Any]

WAITING = ("PROVISIONING", "PENDING", "ACTIVATING")
VISIBLE_SECONDS = 60.0
"""So long after its start a task may be unknown to DescribeTasks: ECS's answers are only eventually consistent."""

KINDS: tuple[tuple[str, FailureKind], ...] = (
    (r"SpotInterruption", "spot"),
    (r"Host EC2|TerminationNotice|InfrastructureHealth|Container instance .*(terminated|lost)", "host_lost"),
    (r"VcpuLimitExceeded|LimitExceeded|vCPU (limit|capacity)|MaxSpotInstanceCountExceeded", "quota"),
    (r"RESOURCE:|EMPTY CAPACITY PROVIDER|\bAGENT\b|InsufficientInstanceCapacity|[Ii]nsufficient capacity", "capacity"),
    (r"[Nn]o [Cc]ontainer [Ii]nstance|MemberOf placement constraint|No Container Instances", "capacity"),
    (r"PROVISIONING|[Cc]apacity is unavailable|Timeout waiting for .*capacity", "capacity"),
    (r"CannotPull|unable to pull image|ImageNotFound|No such image|manifest .*not found", "image"),
    (r"OutOfMemoryError|OOMKilled", "out_of_memory"),
    (r"DockerTimeoutError|ContainerRuntimeTimeoutError", "host_lost"),
    (r"ResourceInitializationError|unable to pull secrets|[Ff]etching secret", "bad_input"),
    (r"Cannot(Start|Create)Container|CannotCreateVolume|ATTRIBUTE|INACTIVE|MISSING", "bad_input"),
)


def kind_of(text: str, spot: bool) -> FailureKind | None:
    """The kind of failure that ECS speaks of; a spot instance that is terminated was taken away."""
    kind = next((kind for pattern, kind in KINDS if re.search(pattern, text)), None)
    return "spot" if kind == "host_lost" and spot and "Host EC2" in text else kind


def words_of(task: Task) -> str:
    """All that ECS says about a task's end."""
    containers: Iterable[Mapping[str, Any]] = task.get("containers") or ()
    said = (task.get("stopCode"), task.get("stoppedReason"), *(one.get("reason") for one in containers))
    return ": ".join(dict.fromkeys(word for word in said if word))


def node_state(handle: Handle, node: int, task: Task | None, spot: bool, seconds: float) -> NodeState:
    """Node ``node``, whose ``task`` ECS knows or not, ``seconds`` after the attempt was started."""
    if task is None:
        return _unknown(handle, node, seconds)
    status = task["lastStatus"]
    if status in WAITING and task.get("desiredStatus") != "STOPPED":
        return NodeState(node, "pending", reason=f"ECS has its task in {status}")
    if status != "STOPPED":
        return NodeState(node, "running")
    return _stopped(handle, node, task, spot)


def _stopped(handle: Handle, node: int, task: Task, spot: bool) -> NodeState:
    end = read_end(handle.spec.attempt_dir, node)
    words = words_of(task)
    if end is not None and end.exit_code == 0:  # it was done before its host was taken away
        return NodeState(node, "ended", 0, reason=words)
    code = None
    if task.get("stopCode") == "EssentialContainerExited":
        code = next((one.get("exitCode") for one in task["containers"]), None)
    elif end is not None:
        code = end.exit_code
    return NodeState(node, "ended", code, kind_of(words, spot), words)


def _unknown(handle: Handle, node: int, seconds: float) -> NodeState:
    """A task of an hour ago, of which the node's own word is left; one that was started just now; or none."""
    end = read_end(handle.spec.attempt_dir, node)
    if end is not None:
        return NodeState(node, "ended", end.exit_code)
    if handle.nodes[node] and seconds < VISIBLE_SECONDS:
        return NodeState(node, "pending", reason="ECS has just taken its task")
    reason = "ECS knows its task no more" if handle.nodes[node] else "it was never started"
    return NodeState(node, "ended", reason=reason)
