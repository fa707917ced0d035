"""What an attempt's end means: which rank was first, at which step, why, and what to do about it."""

import re
import signal
from dataclasses import dataclass
from pathlib import Path

from trainer.contract.attempts import missing_ranks, read_beat
from trainer.contract.errors import ContractError
from trainer.contract.exit_codes import BAD_INPUT, GATE_FAILED, STOPPED
from trainer.contract.fitting import memory_advice, port_advice, shared_memory_advice
from trainer.contract.nodes import PORT_TAKEN, rank_logs
from trainer.contract.results import AFTERMATH, FAILURE_FILE, Failure, FailureKind
from trainer.contract.train_config import TrainConfig, read_config
from training_assets.launchers.base import LaunchSpec, Status
from training_assets.launchers.environment import FLIGHT_RECORDER

# torchrun itself exits with 1 whatever its ranks did, and where two end within a tenth of a second it may name the
# wrong one as the root cause: so every rank of its report is read. A rank that can leaves word in failure.json.
REPORTED = re.compile(r"rank\s*: (\d+) \(local_rank: \d+\)\s+exitcode\s*: (-?\d+)")
NCCL_TIMEOUT = "Watchdog caught collective operation timeout"
END_OF_LOG = 20_000
EXIT_CODES = {"bad_input": BAD_INPUT, "stopped": STOPPED}
OFTEN: dict[int, str] = {
    signal.SIGKILL: "often the kernel's out-of-memory killer",
    signal.SIGBUS: "often /dev/shm is full",
    signal.SIGSEGV: "a crash in native code",
    signal.SIGABRT: "a library gave up; its log says why",
}


@dataclass(frozen=True)
class End:
    """What is known when an attempt has ended badly.

    ``exit_code`` is that of the leading process on the node that ended first, ``log`` what this start of it printed
    last, ``oom`` what the out-of-memory killer did meanwhile; ``processes`` are the ranks of all nodes.
    """

    spec: LaunchSpec
    exit_code: int
    log: str
    oom: str = ""
    processes: int = 1
    node: int = 0

    @property
    def ranks(self) -> dict[int, int]:
        """Exit codes by rank, as torchrun reports them."""
        return {int(rank): int(code) for rank, code in REPORTED.findall(self.log)}

    @property
    def killed(self) -> tuple[int, int] | None:
        """The rank that a signal ended, other than the SIGTERM by which torchrun ends those that are left."""
        return next(((rank, code) for rank, code in self.ranks.items() if code < 0 and code != -signal.SIGTERM), None)

    @property
    def word(self) -> Failure | None:
        path = self.spec.attempt_dir / FAILURE_FILE
        return Failure.model_validate_json(path.read_bytes()) if path.is_file() else None


def status_of(end: End) -> Status:
    """The status of an attempt that ended otherwise than well."""
    word, killed = end.word, end.killed
    # The ranks that survive a killed one complain of its silence, each in its own way.
    if killed is not None and (word is None or word.kind in (*AFTERMATH, "crash", "stopped")):
        return _killed(end, *killed)
    if word is not None and (end.exit_code >= 0 or word.kind not in AFTERMATH):
        return _told(end, word)
    if taken := PORT_TAKEN.search(end.log):
        return _failed(end, 1, "port_taken", f"{end.spec.what}: master port {taken[1]} is taken on this machine",
                       port_advice(taken[1]))  # fmt: skip
    if end.exit_code < 0 and end.exit_code != -signal.SIGTERM:
        return _leader_killed(end)
    rank, exit_code = next(iter(reversed(end.ranks.items())), (None, end.exit_code))
    who = end.spec.what if rank is None else f"{end.spec.what}, rank {rank} first,"
    if exit_code in (STOPPED, -signal.SIGTERM):
        return Status("interrupted", exit_code, f"{who} was stopped (exit code {exit_code})", "stopped")
    kind: FailureKind = "bad_input" if exit_code == BAD_INPUT else "crash"
    return _failed(end, exit_code, kind, f"{who} exited with code {exit_code}", rank=rank)


def _log_of(end: End, rank: int | None) -> Path:
    """The log of ``rank`` alone, or of the node that ended first where it has none."""
    if rank is not None:
        node, local = divmod(rank, max(1, end.processes // end.spec.nodes))
        own = rank_logs(end.spec.attempt_dir, node).glob(f"*/attempt_0/{local}/stdout.log")
        if newest := max(own, key=lambda path: path.stat().st_mtime, default=None):
            return newest
    return end.spec.log_of(end.node)


def hung(spec: LaunchSpec) -> Status:
    """Of an attempt that did not end itself at ``launch.max_run_seconds``."""
    limit = spec.launch.max_run_seconds if spec.launch else None
    reason = (
        f"{spec.what} was stopped: it ran for more than {spec.deadline:.0f} s, launch.max_run_seconds {limit:.0f} and "
        f"{spec.deadline_grace:.0f} s to start and to end. It should have ended itself, so it hung. "
        + missing_ranks(spec.attempt_dir, len(list(spec.attempt_dir.glob("heartbeat-*"))))
    )
    return Status("deadline", None, reason.strip(), "deadline")


def end_of(log: Path, begin: int = 0) -> str:
    """The last of ``log``, nothing before ``begin``."""
    if not log.is_file():
        return ""
    with open(log, "rb") as stream:
        stream.seek(max(begin, log.stat().st_size - END_OF_LOG))
        return stream.read().decode(errors="replace")


def _told(end: End, word: Failure) -> Status:
    said = GATE_FAILED if word.verdict else EXIT_CODES.get(word.kind)
    exit_code = said if said is not None else end.ranks.get(word.rank, end.exit_code)
    when = "" if word.step is None else f" after step {word.step}"
    reason = f"{end.spec.what}, rank {word.rank}{when}: {word.message}"
    if word.kind == "stopped":
        return Status("interrupted", exit_code, reason, word.kind)
    return _failed(end, exit_code, word.kind, reason, word.advice, word.rank)


def _killed(end: End, rank: int, exit_code: int) -> Status:
    log = end_of(_log_of(end, rank))
    who = f"{end.spec.what}: rank {rank}"
    if NCCL_TIMEOUT in log:
        late = missing_ranks(end.spec.attempt_dir, end.processes)
        where = f"torch's flight recorder: {end.spec.attempt_dir / FLIGHT_RECORDER}, read by torchfrtrace."
        return _failed(end, exit_code, "timeout", f"{who} waited in vain for the others", f"{late} {where}", rank)
    beat = read_beat(end.spec.attempt_dir, rank)
    when = f" {str(beat).partition('(')[2][:-1]}" if beat else " before training began"
    kind, how, advice = _signal(end, exit_code)
    return _failed(end, exit_code, kind, f"{who} was killed by {how}{when}", advice, rank)


def _leader_killed(end: End) -> Status:
    kind, how, advice = _signal(end, end.exit_code)
    beats = [read_beat(end.spec.attempt_dir, rank) for rank in range(end.processes)]
    reached = f" Ranks ended with it: {', '.join(str(beat) for beat in beats if beat)}." if any(beats) else ""
    who = f"{end.spec.what}'s torchrun" if end.spec.distributed else end.spec.what
    return _failed(end, end.exit_code, kind, f"{who} was killed by {how}.{reached}", advice)


def _signal(end: End, exit_code: int) -> tuple[FailureKind, str, str]:
    """The kind of failure that a signal stands for, the signal in words, and what to do."""
    number = -exit_code
    name = signal.Signals(number).name if number in set(signal.Signals) else "real-time"
    by_kernel = end.oom if number == signal.SIGKILL else ""
    how = f"signal {number} ({name}: {by_kernel or OFTEN.get(number, 'sent by somebody')})"
    if by_kernel:
        return "out_of_memory", how, memory_advice(_recipe(end.spec), host=True)
    if number == signal.SIGBUS:
        return "shared_memory", how, shared_memory_advice(_recipe(end.spec))
    return "rank_lost", how, ""


def _recipe(spec: LaunchSpec) -> TrainConfig | None:
    try:
        return read_config(spec.run_dir / "train.yaml", environment={})
    except (ContractError, OSError):
        return None


def _failed(
    end: End, exit_code: int, kind: FailureKind, reason: str, advice: str = "", rank: int | None = None
) -> Status:
    text = f"{reason}\n{advice.strip()}" if advice.strip() else reason
    return Status("failed", exit_code, text, kind, _log_of(end, rank))
