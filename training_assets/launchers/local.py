"""The local launcher: processes on this machine, torchrun with a static rendezvous for distributed commands."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass

from trainer.contract.attempts import ATTEMPT_VARIABLE
from trainer.contract.ports import free_port
from training_assets.launchers import environment
from training_assets.launchers.base import Handle, LaunchSpec, Status
from training_assets.launchers.devices import processes_of, refuse_misfit, visible_gpus
from training_assets.launchers.ends import PORT_TAKEN, End, end_of, status_of
from training_assets.launchers.memory import OomKills, oom_kills
from training_assets.launchers.processes import GRACE, marked, stop_tree

STARTS = 5
"""How often an attempt is started anew because its free port was taken before torchrun could listen on it."""


@dataclass
class _Child:
    """The leading process of an attempt; ``begin`` is where its output begins in the log."""

    process: subprocess.Popen[bytes]
    port: int
    begin: int
    kills: OomKills
    starts: int = 1


class LocalLauncher:
    """Each attempt is a process in a session of its own; everything it prints goes to the attempt's log."""

    def __init__(self, grace: float = GRACE, network_interface: str | None = None) -> None:
        self.grace, self.network_interface = grace, network_interface
        self._children: dict[str, _Child] = {}

    def launch(self, spec: LaunchSpec) -> Handle:
        if spec.launch is not None:
            refuse_misfit(spec.launch, visible_gpus(self._environment(spec)))
        (spec.attempt_dir / environment.FLIGHT_RECORDER).mkdir(parents=True, exist_ok=True)
        self._end_forgotten(spec)
        child = self._start(spec)
        handle = Handle(str(child.process.pid), spec, time.time())
        self._children[handle.id] = child
        return handle

    def poll(self, handle: Handle) -> Status:
        child, spec = self._children[handle.id], handle.spec
        exit_code = child.process.poll()
        if exit_code is None:
            return Status("running")
        if exit_code == 0:
            return Status("succeeded", 0)
        log = end_of(spec.log, child.begin)
        if spec.port is None and spec.distributed and child.starts < STARTS and PORT_TAKEN.search(log):
            again = self._start(spec)
            again.starts = child.starts + 1
            self._children[handle.id] = again
            return Status("running")
        oom = oom_kills().since(child.kills)
        return status_of(End(spec, exit_code, log, oom, child.port, self._processes(spec)))

    def logs(self, handle: Handle, offset: int = 0) -> tuple[str, int]:
        ended = self._children[handle.id].process.poll() is not None
        with open(handle.spec.log, "rb") as log:
            log.seek(offset)
            content = log.read()
        if not ended:
            content = content[: content.rfind(b"\n") + 1]
        return content.decode(errors="replace"), offset + len(content)

    def stop(self, handle: Handle) -> None:
        child = self._children[handle.id]
        stop_tree(child.process.pid, (ATTEMPT_VARIABLE, handle.spec.attempt), self.grace)
        child.process.wait()

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
                stop_tree(leader.pid, (ATTEMPT_VARIABLE, earlier), self.grace)

    def _start(self, spec: LaunchSpec) -> _Child:
        port, kills = spec.port or free_port(), oom_kills()
        with open(spec.log, "ab") as log:
            begin = log.tell()
            process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                command_of(spec, self._processes(spec), port),
                cwd=spec.run_dir,
                env=self._environment(spec),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return _Child(process, port, begin, kills)

    def _environment(self, spec: LaunchSpec) -> dict[str, str]:
        return environment_of(spec, self.network_interface)

    def _processes(self, spec: LaunchSpec) -> int:
        return 1 if spec.launch is None else processes_of(spec.launch, visible_gpus(self._environment(spec)))


def command_of(spec: LaunchSpec, processes: int, port: int) -> list[str]:
    """The command line of ``spec`` on this machine.

    Under torchrun each rank has a log of its own, both its streams in the order in which it wrote them; what all of
    them say goes to torchrun's output too, line by line behind the rank's name.
    """
    command = [sys.executable, "-m", spec.module, *spec.arguments]
    if not spec.distributed:
        return command
    together = ("--tee", "1", "--log-dir", str(spec.attempt_dir / "ranks")) if processes > 1 else ()
    return [
        sys.executable,
        *("-m", "torch.distributed.run"),
        *("--nnodes", "1", "--node-rank", "0", "--nproc-per-node", str(processes)),
        *("--master-addr", "127.0.0.1", "--master-port", str(port), "--max-restarts", "0"),
        *together,
        # exec: the rank keeps its process, which torchrun signals and which dies with torchrun.
        *("--no-python", "sh", "-c", 'exec "$@" 2>&1', "sh"),
        *command,
    ]


def environment_of(spec: LaunchSpec, network_interface: str | None = None) -> dict[str, str]:
    """What the launched processes see: what they need of ours, and their attempt's name."""
    given = {**environment.inherited(os.environ), **spec.environment}
    ranks = environment.rank_environment(given, spec.attempt_dir, network_interface) if spec.launch else {}
    return {
        "PYTHONUNBUFFERED": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "[rank ${rank}] ",
        **ranks,
        **environment.thread_environment(spec.launch.threads if spec.launch else spec.threads),
        **given,
        ATTEMPT_VARIABLE: spec.attempt,
    }
