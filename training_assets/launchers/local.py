"""The local launcher: processes on this machine, torchrun with a static rendezvous for distributed commands."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from trainer.contract.results import FAILURE_FILE, Failure
from training_assets.launchers.base import BAD_INPUT, GATE_FAILED, STOPPED, Handle, LaunchSpec, State, Status
from training_assets.launchers.processes import GRACE, stop_tree

ATTEMPT_VARIABLE = "TRAINING_ASSETS_ATTEMPT"

PASSED_ON = re.compile(
    r"PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|VIRTUAL_ENV|PYTHONPATH|PYTHONHASHSEED|LD_LIBRARY_PATH"
    r"|(CUDA|NVIDIA|NCCL|TORCH|GLOO)_(?!\w*(TOKEN|KEY|SECRET|PASSWORD))\w+|WANDB_MODE|DO_NOT_TRACK"
)
"""Environment that the trainer needs; everything else, secrets above all, stays here."""

# torchrun itself exits with 1 whatever its ranks did. A rank that can leaves word in failure.json; of one that was
# killed torchrun's report tells, which names the rank that failed first and how.
ROOT_CAUSE = re.compile(r"Root Cause.*?rank\s*:\s*(\d+).*?exitcode\s*:\s*(-?\d+)", re.DOTALL)
END_OF_LOG = 20_000
EXIT_CODES = {"bad_input": BAD_INPUT, "gate": GATE_FAILED, "not_finite": GATE_FAILED, "stopped": STOPPED}


class LocalLauncher:
    """Each attempt is a process in a session of its own; everything it prints goes to the attempt's log."""

    def __init__(self, grace: float = GRACE) -> None:
        self.grace = grace
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def launch(self, spec: LaunchSpec) -> Handle:
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        (spec.run_dir / FAILURE_FILE).unlink(missing_ok=True)  # an earlier attempt's
        with open(spec.log, "ab") as log:
            child = subprocess.Popen(  # noqa: S603 - our own module, no shell
                command_of(spec),
                cwd=spec.run_dir,
                env=environment_of(spec),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children[str(child.pid)] = child
        return Handle(str(child.pid), spec, time.time())

    def poll(self, handle: Handle) -> Status:
        exit_code = self._children[handle.id].poll()
        if exit_code is None:
            return Status("running")
        if exit_code == 0:
            return Status("succeeded", 0)
        return _failure(exit_code, handle.spec)

    def logs(self, handle: Handle, offset: int = 0) -> tuple[str, int]:
        ended = self._children[handle.id].poll() is not None
        with open(handle.spec.log, "rb") as log:
            log.seek(offset)
            content = log.read()
        if not ended:
            content = content[: content.rfind(b"\n") + 1]
        return content.decode(errors="replace"), offset + len(content)

    def stop(self, handle: Handle) -> None:
        stop_tree(int(handle.id), (ATTEMPT_VARIABLE, handle.spec.attempt), self.grace)
        self._children[handle.id].wait()


def command_of(spec: LaunchSpec) -> list[str]:
    """The command line of ``spec`` on this machine."""
    if not spec.distributed:
        return [sys.executable, "-m", spec.module, *spec.arguments]
    return [
        sys.executable,
        *("-m", "torch.distributed.run"),
        *("--nnodes", "1", "--node-rank", "0", "--nproc-per-node", str(spec.processes or _gpus() or 1)),
        *("--master-addr", "127.0.0.1", "--master-port", str(_free_port()), "--max-restarts", "0"),
        *("-m", spec.module),
        *spec.arguments,
    ]


def environment_of(spec: LaunchSpec) -> dict[str, str]:
    """What the launched processes see: what they need of ours, their thread counts, and their attempt's name."""
    inherited = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    threads = str(spec.threads)
    return {
        **inherited,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "GLOO_SOCKET_IFNAME": inherited.get("GLOO_SOCKET_IFNAME", "lo"),
        **spec.environment,
        ATTEMPT_VARIABLE: spec.attempt,
    }


def _gpus() -> int:
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _failure(exit_code: int, spec: LaunchSpec) -> Status:
    cause = ROOT_CAUSE.search(_end_of(spec.log)) if spec.distributed else None
    rank, exit_code = (int(cause[1]), int(cause[2])) if cause else (None, exit_code)
    who = f"{spec.what}" if rank is None else f"{spec.what}, rank {rank} first,"
    word = _word_of(spec)
    # The ranks that survive a killed one complain of its silence: then torchrun knows better.
    if word is not None and exit_code >= 0:
        state: State = "interrupted" if word.kind == "stopped" else "failed"
        return Status(state, EXIT_CODES.get(word.kind, exit_code), f"{spec.what}, rank {word.rank}: {word.message}")
    if exit_code in (STOPPED, -signal.SIGTERM):
        return Status("interrupted", exit_code, f"{who} was stopped (exit code {exit_code})")
    how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"exited with code {exit_code}"
    return Status("failed", exit_code, f"{who} {how}")


def _word_of(spec: LaunchSpec) -> Failure | None:
    path = spec.run_dir / FAILURE_FILE
    return Failure.model_validate_json(path.read_bytes()) if spec.distributed and path.is_file() else None


def _end_of(log: Path) -> str:
    with open(log, "rb") as stream:
        stream.seek(max(0, log.stat().st_size - END_OF_LOG))
        return stream.read().decode(errors="replace")
