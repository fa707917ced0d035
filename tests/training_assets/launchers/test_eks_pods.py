"""How pods and their Job are read where the emulated cluster cannot bring them to: shapes of a real control plane."""

from pathlib import Path
from typing import Any

import pytest

from trainer.contract.nodes import NodeAddress, NodeEnd, address_path, end_path
from trainer.contract.train_config import Launch
from training_assets.launchers.base import LaunchSpec
from training_assets.launchers.eks.pods import INDEX, Seen, plain, states_of
from training_assets.launchers.gang import NodeState

Object = dict[str, Any]
JOB: Object = {"metadata": {"uid": "1"}, "spec": {"suspend": False}, "status": {}}


def spec_of(place: Path) -> LaunchSpec:
    return LaunchSpec(("train",), place, "a", launch=Launch(num_nodes=2))


def pod(index: int = 0, phase: str = "Running", container: Object | None = None, **other: Any) -> Object:
    """``container`` is its state; ``deleted``, ``conditions``, ``reason``, ``message``, ``created`` as they say."""
    metadata = {"creationTimestamp": other.get("created", "2026-09-01T10:00:00Z"), "annotations": {INDEX: str(index)}}
    metadata |= {"deletionTimestamp": "2026-09-01T10:05:00Z"} if other.get("deleted") else {}
    status = {"phase": phase, "conditions": other.get("conditions", [])}
    status |= {name: other[name] for name in ("reason", "message") if name in other}
    status["containerStatuses"] = [{"name": "trainer", "state": container or {"running": {}}}]
    return {"metadata": metadata, "spec": {"nodeName": "host-1"}, "status": status}


def holds(kind: str, reason: str = "", message: str = "") -> Object:
    return {"type": kind, "status": "True", "reason": reason, "message": message}


def job(*conditions: Object, suspend: bool = False, **metadata: Any) -> Object:
    return {"metadata": {"uid": "1", **metadata}, "spec": {"suspend": suspend}, "status": {"conditions": conditions}}


def seen(place: Path, *pods: Object, job: Object | None = JOB, **other: Any) -> list[NodeState]:
    return states_of(Seen(spec_of(place), pods, job, **other))


def terminated(code: int, reason: str = "Error", message: str = "") -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def waiting(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason, "message": message}}


@pytest.mark.parametrize(
    ("first", "kind", "said"),
    [
        (pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory. Threshold: 100Mi"),
         "out_of_memory", "low on resource: memory"),
        (pod(phase="Failed", reason="Evicted", message="The node was low on resource: ephemeral-storage"),
         "spot", "ephemeral-storage"),
        (pod(reason="NodeLost", message="Node host-1 is unresponsive"), "spot", "NodeLost on host-1"),
        (pod(phase="Unknown"), "spot", "host-1"),
        (pod(deleted=True), "spot", "host-1 is lost or drained"),
        (pod(conditions=[holds("DisruptionTarget", "PreemptionByScheduler", "preempting")]), "spot", "Preemption"),
        (pod(phase="Failed", container=terminated(143), conditions=[holds("DisruptionTarget", "TerminationByKubelet",
             "Pod was terminated in response to imminent node shutdown.")]), "spot", "imminent node shutdown"),
        (pod(phase="Failed", container=terminated(137, "OOMKilled")), "out_of_memory", "memory ran out"),
        (pod(phase="Pending", container=waiting("InvalidImageName", "couldn't parse")), "image", "couldn't parse"),
        (pod(phase="Pending", container=waiting("ErrImagePull", "pull access denied")), "image", "denied"),
        (pod(phase="Pending", container=waiting("CreateContainerConfigError", 'secret "wandb" not found')),
         "bad_input", 'secret "wandb" not found'),
    ],
)  # fmt: skip
def test_what_the_cluster_did_to_a_pod_decides(tmp_path: Path, first: Object, kind: str, said: str) -> None:
    state, other = seen(tmp_path, first, pod(1), lost="spot")
    assert (state.kind, other) == (kind, NodeState(1, "running"))
    assert said in state.reason


def test_pods_that_the_job_takes_down_with_the_one_that_failed_are_not_lost(tmp_path: Path) -> None:
    failing = job(holds("FailureTarget", "PodFailurePolicy", "exit code 1"))
    failed = pod(1, "Failed", terminated(1, message="Traceback …"))
    assert seen(tmp_path, pod(0, deleted=True), failed, job=failing) == [
        NodeState(0, "running"),
        NodeState(1, "ended", 1, None, "Traceback …"),
    ]


def test_a_pod_that_ended_well_is_not_lost_when_its_host_is_drained_afterwards(tmp_path: Path) -> None:
    drained = pod(0, "Succeeded", terminated(0), deleted=True, conditions=[holds("DisruptionTarget")])
    assert seen(tmp_path, drained, pod(1))[0] == NodeState(0, "ended", 0)


def test_a_job_that_is_complete_speaks_for_pods_that_were_cleaned_up(tmp_path: Path) -> None:
    complete = job(holds("Complete", "CompletionsReached"))
    assert seen(tmp_path, job=complete) == [NodeState(0, "ended", 0), NodeState(1, "ended", 0)]


def test_a_deadline_is_told_whatever_the_pods_look_like(tmp_path: Path) -> None:
    over = job(holds("FailureTarget", "DeadlineExceeded", "Job was active longer than specified deadline"))
    states = seen(tmp_path, pod(0, "Failed", terminated(75)), job=over)
    assert [state.kind for state in states] == ["deadline", "deadline"]


def test_a_failed_jobs_own_word_is_taken_where_its_pods_are_gone(tmp_path: Path) -> None:
    message = "Pod ns/a-0-x has condition DisruptionTarget matching FailJob rule at index 0"
    failed = job(holds("Failed", "PodFailurePolicy", message))
    assert [state.kind for state in seen(tmp_path, job=failed)] == ["host_lost", "host_lost"]


def test_after_the_job_is_deleted_nodes_ended_as_they_said(tmp_path: Path) -> None:
    path = end_path(spec_of(tmp_path).attempt_dir, 0)
    path.parent.mkdir(parents=True)
    path.write_text(NodeEnd(node=0, exit_code=0, cause="exit", at=1.0).model_dump_json())
    first, second = seen(tmp_path, job=None)
    assert (first.state, first.exit_code, first.kind) == ("ended", 0, None)
    assert (second.state, second.exit_code, second.kind) == ("ended", None, None)


def test_a_pod_that_was_there_and_is_not_any_more_is_a_loss(tmp_path: Path) -> None:
    path = address_path(spec_of(tmp_path).attempt_dir, 0)
    path.parent.mkdir(parents=True)
    path.write_text(NodeAddress(node=0, host="h", port=1, pid=1, at=1.0).model_dump_json())
    for gone in (JOB, job(suspend=True)):
        first, second = seen(tmp_path, job=gone)
        assert first.kind == "host_lost"
        assert second.state == "pending"


def test_what_keeps_a_pod_from_being_created_is_told(tmp_path: Path) -> None:
    def states(message: str) -> NodeState:
        return seen(tmp_path, events=[{"message": message, "lastTimestamp": "2026-09-01T10:00:00Z"}])[0]

    assert states('pods "x" is forbidden: exceeded quota: gpu').kind == "quota"
    assert states('pods "x" is forbidden: violates PodSecurity "baseline:latest"').kind == "bad_input"
    assert states("failed calling webhook").reason == "failed calling webhook"
    assert states("failed calling webhook").kind is None


def test_a_registry_that_does_not_answer_is_waited_for_until_nodes_should_have_come(tmp_path: Path) -> None:
    slow = pod(phase="Pending", container=waiting("ImagePullBackOff", "Back-off pulling image"))
    assert seen(tmp_path, slow, pod(1))[0].kind is None
    assert seen(tmp_path, slow, pod(1), late=True)[0].kind == "image"


def test_a_pod_that_is_prepared_says_what_for(tmp_path: Path) -> None:
    creating = pod(phase="Pending", container=waiting("ContainerCreating"))
    assert seen(tmp_path, creating, pod(1))[0].reason == "host-1 prepares it (ContainerCreating)"


def test_the_newest_pod_of_an_index_counts(tmp_path: Path) -> None:
    old = pod(0, "Failed", terminated(1), created="2026-09-01T09:00:00Z")
    assert seen(tmp_path, pod(0), old, pod(1))[0].state == "running"


def test_the_job_is_asked_for_only_where_pods_leave_doubt() -> None:
    assert plain([pod(0), pod(1, "Succeeded")], 2)
    assert not plain([pod(0)], 2)
    assert not plain([pod(0), pod(1, "Failed")], 2)
    assert not plain([pod(0), pod(1, deleted=True)], 2)
    assert not plain([pod(0), pod(1, conditions=[holds("DisruptionTarget")])], 2)
