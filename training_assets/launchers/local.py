"""The local launcher: every node is a process tree on this machine."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import psutil

from trainer.contract.attempts import ATTEMPT_VARIABLE
from trainer.contract.errors import Problem
from trainer.contract.nodes import ADDRESS_VARIABLE, NODE_VARIABLE, read_address, read_end
from training_assets.launchers import environment
from training_assets.launchers.base import Estimate, Handle, LaunchSpec
from training_assets.launchers.devices import processes_of, refuse_misfit, visible_gpus
from training_assets.launchers.gang import Gang, NodeState, node_environment
from training_assets.launchers.processes import GRACE, is_alive, marked, stop_tree


class LocalLauncher(Gang):
    """Each node is a process in a session of its own. Several of them rehearse a cluster, on the CPU."""

    name = "local"
    poll_seconds = 0.2

    def __init__(self, grace: float = GRACE, network_interface: str | None = None) -> None:
        self.grace, self.network_interface = grace, network_interface
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        """By process id: those that this process has to wait for."""

    def check(self) -> Sequence[Problem]:
        return ()

    def estimate(self, spec: LaunchSpec) -> Estimate:
        gpus = self.ranks(spec) if visible_gpus(self._given(spec)) else 0
        return Estimate("this machine", spec.nodes, gpus, None)

    def launch(self, spec: LaunchSpec) -> Handle:
        if spec.launch is not None:
            refuse_misfit(spec.launch, visible_gpus(self._given(spec)))
        (spec.attempt_dir / environment.FLIGHT_RECORDER).mkdir(parents=True, exist_ok=True)
        self._end_forgotten(spec)
        processes = [self._start(spec, node) for node in range(spec.nodes)]
        self._children |= {str(process.pid): process for process in processes}
        ids = tuple(str(process.pid) for process in processes)
        return Handle(ids[0], spec, time.time(), ids)

    def attach(self, handle: Handle) -> Handle | None:
        """What it was started as is in the nodes' addresses: the handle may have been kept before there was one."""
        addresses = [read_address(handle.spec.attempt_dir, node) for node in range(handle.spec.nodes)]
        ids = tuple("" if address is None else str(address.pid) for address in addresses)
        return Handle(ids[0], handle.spec, handle.started_at, ids) if any(ids) else None

    def nodes(self, handle: Handle) -> Sequence[NodeState]:
        return [self._state(handle, node, pid) for node, pid in enumerate(handle.nodes)]

    def ranks(self, spec: LaunchSpec) -> int:
        return 1 if spec.launch is None else processes_of(spec.launch, visible_gpus(self._given(spec)))

    def stop(self, handle: Handle) -> None:
        mark = (ATTEMPT_VARIABLE, handle.spec.attempt)
        for pid in handle.nodes:
            if child := self._children.get(pid):
                child.poll()
        leaders = [int(pid) for pid in handle.nodes if pid and self._is_alive(handle, pid)]
        stop_tree(leaders, mark, self.grace)
        for pid in handle.nodes:
            if child := self._children.get(pid):
                child.wait()

    def _state(self, handle: Handle, node: int, pid: str) -> NodeState:
        child = self._children.get(pid)
        if child is not None:
            code = child.poll()
            if code is None:
                return NodeState(node, "running")
        elif self._is_alive(handle, pid):
            return NodeState(node, "running")
        else:
            code = None
        end = read_end(handle.spec.attempt_dir, node)
        return NodeState(node, "ended", end.exit_code if end else code if code is not None else -9)

    def _is_alive(self, handle: Handle, pid: str) -> bool:
        """Whether the process is this attempt's: its number may be another's by now."""
        if not pid or not psutil.pid_exists(int(pid)):
            return False
        try:
            process = psutil.Process(int(pid))
            return is_alive(process) and process.environ().get(ATTEMPT_VARIABLE) == handle.spec.attempt
        except (psutil.Error, OSError):
            return False

    def _end_forgotten(self, spec: LaunchSpec) -> None:
        """End earlier attempts at this run that outlived the step that watched them: it was killed.

        A run directory holds one training at a time. Asked to stop it saves a checkpoint, which this attempt goes on
        from.
        """
        for earlier in (log.stem for log in spec.log.parent.glob("*.log")):
            if earlier != spec.attempt and (left := marked((ATTEMPT_VARIABLE, earlier))):
                leader = min(left, key=lambda process: process.create_time())
                if str(leader.pid) in self._children:
                    continue  # watched, by this very process: the run directory is in use
                stop_tree([leader.pid], (ATTEMPT_VARIABLE, earlier), self.grace)

    def _start(self, spec: LaunchSpec, node: int) -> subprocess.Popen[bytes]:
        spec.log_of(node).parent.mkdir(parents=True, exist_ok=True)
        with open(spec.log_of(node), "ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own module, no shell
                [sys.executable, *self.command(spec)],
                cwd=spec.run_dir,
                env=environment_of(spec, self.network_interface) | {NODE_VARIABLE: str(node)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _given(self, spec: LaunchSpec) -> Mapping[str, str]:
        return {**environment.inherited(os.environ), **spec.environment}


def environment_of(spec: LaunchSpec, network_interface: str | None = None) -> dict[str, str]:
    """What the launched processes see: what they need of ours, and their attempt's name."""
    here = {ADDRESS_VARIABLE: "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    return {**here, **node_environment(spec, environment.inherited(os.environ), network_interface)}
