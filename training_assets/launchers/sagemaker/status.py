"""What SageMaker says of a job, in our words. The messages are as its documentation and users report them: they are no
contract, and what is not recognised counts as a crash with SageMaker's own text.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.contract.exit_codes import STOPPED
from trainer.contract.results import FailureKind
from training_assets.launchers.gang import NodeState

ENDED = ("Completed", "Failed", "Stopped", "Deleting")
RUNNING = ("Training", "Uploading", "Stopping", "Updating")
"""Secondary statuses of a job whose containers have been started."""

EXIT_CODE = re.compile(r"exit code:? (\d+)", re.IGNORECASE)
WORDS: tuple[tuple[re.Pattern[str], FailureKind], ...] = (
    (re.compile(r"CapacityError|InsufficientCapacity|Unable to provision requested ML compute"), "capacity"),
    (re.compile(r"ResourceLimitExceeded"), "quota"),
    (re.compile(r"InternalServerError|internal error", re.IGNORECASE), "host_lost"),
    (re.compile(r"CannotPullContainer|ImageNotFound|(pull|find|requested) (the )?(container )?(image|repository)"
                r"|image .*not found|ecr:BatchGetImage", re.IGNORECASE), "image"),
    (re.compile(r"instance type with more memory"), "out_of_memory"),
)  # fmt: skip


def state_of(job: Mapping[str, Any], stopped_by_us: bool) -> NodeState:
    """The state of every node of ``job`` (DescribeTrainingJob): SageMaker places and ends all of them together."""
    status, secondary = job["TrainingJobStatus"], job["SecondaryStatus"]
    if status == "Completed":
        return NodeState(0, "ended", 0)
    if stopped_by_us and status == "Stopped":
        return _ended(job, "cancelled", "was stopped by its launcher")
    if _was_interrupted(job):
        return _ended(job, "spot", "lost its spot instances")
    if status == "Failed":
        return _failed(job)
    if status in ENDED:
        return _stopped(job)
    if secondary in RUNNING:
        return NodeState(0, "running")
    return NodeState(0, "pending", reason=f"{secondary}: {_message(job)}" if _message(job) else secondary)


def kind_of(text: str) -> FailureKind | None:
    """Which failure SageMaker's ``text`` speaks of, if one that has nothing to do with what ran."""
    return next((kind for pattern, kind in WORDS if pattern.search(text)), None)


def _failed(job: Mapping[str, Any]) -> NodeState:
    reason = job.get("FailureReason", "")
    # First of all: an AlgorithmError repeats what the training wrote, whatever words are in that.
    if reason.startswith("AlgorithmError"):
        codes = EXIT_CODE.findall(reason)
        return NodeState(0, "ended", int(codes[-1]) if codes else 1, reason=reason)
    return _ended(job, kind_of(reason) or "crash", f"failed: {reason or 'without a reason'}")


def _stopped(job: Mapping[str, Any]) -> NodeState:
    secondary = job["SecondaryStatus"]
    if secondary == "MaxRuntimeExceeded":
        return _ended(job, "deadline", "ran for longer than its MaxRuntimeInSeconds")
    if secondary in ("MaxWaitTimeExceeded", "MaxPendingTimeExceeded"):
        return _ended(job, "capacity", "waited for instances in vain")
    return NodeState(0, "ended", STOPPED, reason=f"{_name(job)} was stopped by somebody else")


def _was_interrupted(job: Mapping[str, Any]) -> bool:
    """Managed spot training starts an interrupted job again by itself; its status may have moved on by now."""
    return any(one["Status"] == "Interrupted" for one in job.get("SecondaryStatusTransitions", ()))


def _ended(job: Mapping[str, Any], kind: FailureKind, what: str) -> NodeState:
    return NodeState(0, "ended", None, kind, f"{_name(job)} {what}", whole=True)


def _name(job: Mapping[str, Any]) -> str:
    return f"training job {job['TrainingJobName']}"


def _message(job: Mapping[str, Any]) -> str:
    transitions: Sequence[Mapping[str, str]] = job.get("SecondaryStatusTransitions") or ({},)
    return transitions[-1].get("StatusMessage", "")
