"""What is the same for every backend: the command of a node, its environment, and where an attempt stands.

All nodes start together, and the first that ends badly ends the attempt. How it ended is read from what the nodes left
in the attempt's directory, which all of them share; the backend is asked what only it can know.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from trainer.contract.attempts import ATTEMPT_VARIABLE
from trainer.contract.errors import Problem
from trainer.contract.nodes import FirstEnd, read_end, read_first_end
from trainer.contract.results import FailureKind
from training_assets.launchers import environment
from training_assets.launchers.base import Estimate, Handle, LaunchSpec, Offset, Status
from training_assets.launchers.devices import processes_of
from training_assets.launchers.ends import End, end_of, hung, status_of
from training_assets.launchers.hardware import instance_of, usd_per_hour
from training_assets.profiles.hardware import Hardware

PLACEMENT_SECONDS = 1200.0
LOST: frozenset[FailureKind] = frozenset(
    {"spot", "host_lost", "image", "quota", "capacity", "deadline", "out_of_memory", "cancelled", "bad_input"}
)
"""What a backend's word on a node decides, whatever the node itself could still say."""


@dataclass(frozen=True)
class NodeState:
    """One node as its backend sees it. ``kind`` and ``reason`` are the backend's own word, where it has one.

    A node that waits says in ``reason`` what for. ``exit_code`` None of an ended one: it is gone without any.
    ``whole``: the reason is that of all nodes together.
    """

    node: int
    state: Literal["pending", "running", "ended"]
    exit_code: int | None = None
    kind: FailureKind | None = None
    reason: str = ""
    whole: bool = False

    @property
    def ended_badly(self) -> bool:
        return self.kind is not None or (self.state == "ended" and self.exit_code != 0)


class Gang(ABC):
    """A launcher whose backend starts ``python -m trainer.node`` on each of its nodes."""

    name: str
    placement_seconds: float = PLACEMENT_SECONDS
    poll_seconds: float = 5.0
    store: Path | None = None
    mount: Path | None = None
    """Where nodes see ``store``, if not under the same path."""
    network_interface: str | None = None

    @abstractmethod
    def check(self) -> Sequence[Problem]: ...

    @abstractmethod
    def estimate(self, spec: LaunchSpec) -> Estimate: ...

    @abstractmethod
    def launch(self, spec: LaunchSpec) -> Handle: ...

    @abstractmethod
    def attach(self, handle: Handle) -> Handle | None: ...

    @abstractmethod
    def stop(self, handle: Handle) -> None: ...

    @abstractmethod
    def nodes(self, handle: Handle) -> Sequence[NodeState]:
        """What the backend says of each node, one call for all of them where it can."""

    @abstractmethod
    def ranks(self, spec: LaunchSpec) -> int:
        """Processes that ``spec`` has on each node."""

    def poll(self, handle: Handle) -> Status:
        spec, states = handle.spec, self.nodes(handle)
        if bad := [state for state in states if state.ended_badly]:
            return ended_badly(spec, bad, self.ranks(spec) * spec.nodes)
        if all(state.state == "ended" for state in states):
            return Status("succeeded", 0)
        pending = [state for state in states if state.state == "pending"]
        if pending and time.time() - handle.started_at > self.placement_seconds:
            return not_placed(spec, pending, self.placement_seconds)
        return Status("running", waits_for=_waits_for(pending, spec.nodes))

    def logs(self, handle: Handle, offset: Offset = (), last: bool = False) -> tuple[str, Offset]:
        return read_logs(handle.spec, offset, last)

    def there(self, text: str) -> str:
        """A path in the store, or anything else, as a node knows it."""
        if self.store is None or self.mount is None or not Path(text).is_relative_to(self.store):
            return text
        return str(self.mount / Path(text).relative_to(self.store))

    def command(self, spec: LaunchSpec, *options: str) -> tuple[str, ...]:
        """What follows the interpreter on each node."""
        return tuple(map(self.there, node_command(spec, self.ranks(spec), *options)))

    def environment(self, spec: LaunchSpec, given: Mapping[str, str] | None = None) -> dict[str, str]:
        """:func:`node_environment` for nodes that see the store elsewhere."""
        own = node_environment(spec, given, self.network_interface)
        return {name: self.there(value) for name, value in own.items()}

    def seconds_billed(self, handle: Handle) -> float | None:
        return None


class HiredGang(Gang):
    """A gang on instances of one type that a cloud charges for."""

    hardware: Hardware

    def estimate(self, spec: LaunchSpec) -> Estimate:
        gpus = spec.nodes * instance_of(self.hardware).gpus
        return Estimate(self.hardware.instance_type, spec.nodes, gpus, usd_per_hour(self.hardware, spec.nodes))

    def ranks(self, spec: LaunchSpec) -> int:
        return 1 if spec.launch is None else processes_of(spec.launch, instance_of(self.hardware).gpus)


def node_command(spec: LaunchSpec, ranks: int, *options: str) -> tuple[str, ...]:
    """What follows the interpreter on each node."""
    port = ("--port", str(spec.port)) if spec.port else ()
    seconds = ("--seconds", str(spec.deadline)) if spec.deadline else ()
    processes = str(ranks if spec.distributed else 0)
    return (
        *("-m", "trainer.node", str(spec.attempt_dir), "--nodes", str(spec.nodes), "--ranks", processes),
        *(*port, *seconds, *options),
        *("--", "-m", spec.module, *spec.arguments),
    )


def node_environment(
    spec: LaunchSpec, given: Mapping[str, str] | None = None, network_interface: str | None = None
) -> dict[str, str]:
    """What launched processes see beside what their image sets: ``given``, and what they need of ours."""
    given = {**(given or {}), **spec.environment}
    ranks = environment.rank_environment(given, spec.attempt_dir, network_interface) if spec.launch else {}
    return {
        "PYTHONUNBUFFERED": "1",
        "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "[rank ${rank}] ",
        **ranks,
        **environment.thread_environment(spec.launch.threads if spec.launch else spec.threads),
        **given,
        ATTEMPT_VARIABLE: spec.attempt,
    }


def ended_badly(spec: LaunchSpec, bad: Sequence[NodeState], processes: int) -> Status:
    """The status of an attempt of which at least the nodes ``bad`` ended otherwise than well."""
    first = read_first_end(spec.attempt_dir)
    said = next((state for state in bad if state.kind in LOST or (state.kind and first is None)), None)
    if said is not None:
        return Status("failed", said.exit_code, f"{spec.what}: {_whole(said, spec.nodes)}", said.kind,
                      _log_if_any(spec, said.node))  # fmt: skip
    killed = _killed(spec, bad, first)
    if first is None or killed:
        return _gone(spec, killed or bad[0], processes)
    if first.cause == "exit":
        return _by_its_word(spec, first.node, processes)
    return _told(spec, first, processes)


def _killed(spec: LaunchSpec, bad: Sequence[NodeState], first: FirstEnd | None) -> NodeState | None:
    """The node whose silent end made the backend tell the others to stop, where these were the first to say so."""
    if first is None or first.cause != "signal":
        return None
    silent = (state for state in bad if state.exit_code is not None and read_end(spec.attempt_dir, state.node) is None)
    return next((state for state in silent if state.node != first.node), None)


def not_placed(spec: LaunchSpec, pending: Sequence[NodeState], seconds: float) -> Status:
    missing = ", ".join(str(state.node) for state in pending)
    why = next((state.reason for state in pending if state.reason), "the backend does not say why")
    reason = f"{spec.what}: node {missing} of {spec.nodes} did not come within {seconds / 60:.0f} minutes: {why}"
    return Status("failed", None, reason, "capacity")


def read_logs(spec: LaunchSpec, offset: Offset, last: bool) -> tuple[str, Offset]:
    """What the nodes wrote after ``offset``, those of each node together; ``last``: also a line without an end."""
    texts, offsets = [], []
    for node in range(spec.nodes):
        begin = offset[node] if node < len(offset) else 0
        path = spec.log_of(node)
        content = b""
        if path.is_file():
            with open(path, "rb") as log:
                log.seek(begin)
                content = log.read()
        if not last:
            content = content[: content.rfind(b"\n") + 1]
        texts.append(content.decode(errors="replace"))
        offsets.append(begin + len(content))
    return "".join(texts), tuple(offsets)


def _by_its_word(spec: LaunchSpec, node: int, processes: int) -> Status:
    """By what node ``node``, its ranks and its log say of themselves."""
    end = read_end(spec.attempt_dir, node)
    if end is None:  # it left word of its end, and had no time for more
        return _gone(spec, NodeState(node, "ended"), processes)
    log = end_of(spec.log_of(node), end.log_begin)
    return status_of(End(spec, end.exit_code, log, end.oom, processes, node))


def _told(spec: LaunchSpec, first: FirstEnd, processes: int) -> Status:
    who = f"{spec.what}: node {first.node} of {spec.nodes}" if spec.nodes > 1 else spec.what
    log = _log_if_any(spec, first.node)
    if first.cause == "spot":
        return Status("failed", None, f"{who} runs on a spot instance that is taken away", "spot", log)
    if first.cause == "alone":
        return Status("failed", None, f"{who} waited in vain for the others to come", "capacity", log)
    if first.cause == "deadline":
        return hung(spec)
    status = _by_its_word(spec, first.node, processes)  # which may name the checkpoint that was saved
    told = Status("interrupted", None, f"{who} was told to stop", "stopped", log)
    return status if status.state == "interrupted" else told


def _gone(spec: LaunchSpec, state: NodeState, processes: int) -> Status:
    """A node that left no word: it was killed, its host is gone, or it never began."""
    exit_code = -9 if state.exit_code in (None, 137) else state.exit_code
    if state.kind is None and state.exit_code is None:
        reason = state.reason or "its host is gone: it ended without an exit code"
        return Status("failed", None, f"{spec.what}: {_whole(state, spec.nodes, reason)}", "host_lost",
                      _log_if_any(spec, state.node))  # fmt: skip
    log = end_of(spec.log_of(state.node))
    status = status_of(End(spec, exit_code or 1, log or state.reason, "", processes, state.node))
    return status if log or not state.reason else replace(status, reason=f"{status.reason}: {state.reason}")


def _whole(state: NodeState, nodes: int, reason: str = "") -> str:
    what = reason or state.reason or f"{state.kind}"
    return f"node {state.node} of {nodes}: {what}" if nodes > 1 and not state.whole else what


def _log_if_any(spec: LaunchSpec, node: int) -> Path | None:
    return spec.log_of(node) if spec.log_of(node).is_file() else None


def _waits_for(pending: Sequence[NodeState], nodes: int) -> str:
    if not pending:
        return ""
    why = next((state.reason for state in pending if state.reason), "to be placed")
    return f"{len(pending)} of {nodes} nodes wait: {why}"
