"""Leaves word of why an attempt failed and what to do about it, where the launcher finds it."""

import contextlib
import os
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import torch
import torch.distributed as dist

from trainer.contract.attempts import ATTEMPT_VARIABLE, attempt_dir, failure_path, forget_beat, missing_ranks, read_beat
from trainer.contract.errors import ContractError
from trainer.contract.files import write_text
from trainer.contract.fitting import memory_advice, memory_ran_out, port_advice, shared_memory_advice
from trainer.contract.results import AFTERMATH, Failure, FailureKind
from trainer.contract.train_config import TrainConfig
from trainer.data.shards import DamagedShard
from trainer.engine.callbacks.dry_run import DoesNotFit
from trainer.engine.callbacks.finite import NotFinite
from trainer.engine.callbacks.stopping import Stop
from trainer.engine.loop import GateFailed

# What torch says, as of 2.13: it has no exception types of its own for most of these.
NO_MEMORY = re.compile(r".*(out of memory|(can't|[Cc]annot) allocate memory|not enough memory|_ALLOC_FAILED).*")
NO_SHARED_MEMORY = re.compile(r".*([Bb]us error|insufficient shared memory|(allocate|write).*shared memory).*")
NO_PORT = re.compile(r".*EADDRINUSE.*")
TIMED_OUT = re.compile(r".*([Tt]imed out|[Tt]imeout).*")
NO_PEER = re.compile(
    r".*(Connection (closed|reset|refused)|[Bb]roken pipe|onnection was likely closed|ncclRemoteError"
    r"|communicator was aborted|failed to connect).*"
)
RESTAGE = (
    "Stage it again: materialise staged_shards (or eval_shards) of its window, which writes a missing or cut-off shard "
    "anew; delete a shard whose content is wrong first."
)


@dataclass
class Subject:
    """What is being tried; ``config`` once it is read, so that advice can name its values."""

    run_dir: Path
    rank: int
    config: TrainConfig | None = None

    @property
    def attempt(self) -> Path:
        return attempt_dir(self.run_dir)


@contextlib.contextmanager
def explained(run_dir: Path) -> Iterator[Subject]:
    """Write ``failure.json`` for what ends the block early, and pass it on.

    The first rank's word stays, unless it tells only of another rank's silence.
    """
    subject = Subject(run_dir, int(os.environ.get("RANK", 0)))
    forget_beat(subject.attempt, subject.rank)
    path = failure_path(run_dir)
    if subject.rank == 0 and ATTEMPT_VARIABLE not in os.environ:
        path.unlink(missing_ok=True)  # an earlier one's
    try:
        yield subject
    except BaseException as error:
        if not (isinstance(error, SystemExit) and not error.code):
            _leave_word(path, failure_of(error, subject))
        raise


def _leave_word(path: Path, failure: Failure) -> None:
    """Exclusively, so that of two ranks that fail at once an aftermath never replaces a cause."""
    draft = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    write_text(draft, failure.model_dump_json(indent=2) + "\n")
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        there = Failure.model_validate_json(path.read_bytes())
        if there.kind in AFTERMATH and failure.kind not in AFTERMATH:
            draft.replace(path)
    draft.unlink(missing_ok=True)


def failure_of(error: BaseException, subject: Subject) -> Failure:
    """``error`` as a failure of this rank: its kind, what happened in a line or two, and what to do."""
    kind, message, advice = next(found for rule in RULES if (found := rule(error, subject)) is not None)
    beat = read_beat(subject.attempt, subject.rank)
    step = beat.finished if beat else None
    verdict = error.verdict if isinstance(error, GateFailed) else None
    return Failure(kind=kind, message=message, rank=subject.rank, step=step, advice=advice, verdict=verdict)


Found = tuple[FailureKind, str, str] | None
Rule = Callable[[BaseException, Subject], Found]


def _told(error: BaseException, subject: Subject) -> Found:
    kinds: dict[type, FailureKind] = {
        ContractError: "bad_input",
        Stop: "stopped",
        NotFinite: "not_finite",
        DoesNotFit: "out_of_memory",
        GateFailed: "gate",  # any other
    }
    return next(((kind, str(error), "") for cls, kind in kinds.items() if isinstance(error, cls)), None)


def _data(error: BaseException, subject: Subject) -> Found:
    return ("data", str(error), RESTAGE) if isinstance(error, DamagedShard) else None


def _shared_memory(error: BaseException, subject: Subject) -> Found:
    line = _line(NO_SHARED_MEMORY, error)
    if not line:
        return None
    return "shared_memory", f"shared memory ran out: {line}", shared_memory_advice(subject.config)


def _memory(error: BaseException, subject: Subject) -> Found:
    line = _line(NO_MEMORY, error)
    if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not line:
        return None
    on_device = isinstance(error, torch.OutOfMemoryError) or "CU" in str(error)
    message = memory_ran_out(line or repr(error), not on_device)
    return "out_of_memory", message, memory_advice(subject.config, not on_device)


def _worker(error: BaseException, subject: Subject) -> Found:
    if not re.match(r"DataLoader worker \(pid", str(error)):
        return None
    now = f" (now {subject.config.data.workers} a rank)" if subject.config else ""
    advice = f"Often the kernel's out-of-memory killer: lower data.workers{now}."
    return "crash", f"a loader worker ended: {str(error).splitlines()[0]}", advice


def _port(error: BaseException, subject: Subject) -> Found:
    line = _line(NO_PORT, error)
    if not line:
        return None
    port = os.environ.get("MASTER_PORT", "?")
    return "port_taken", f"master port {port} is taken on this machine: {line}", port_advice(port)


def _timeout(error: BaseException, subject: Subject) -> Found:
    line = _line(TIMED_OUT, error) if _of_ranks(error) else None
    if not line:
        return None
    late = missing_ranks(subject.attempt, int(os.environ.get("WORLD_SIZE", 1)))
    return "timeout", f"ranks waited in vain for each other: {line}", late or "Each rank's own log says where it was."


def _lost_peer(error: BaseException, subject: Subject) -> Found:
    line = _line(NO_PEER, error) if _of_ranks(error) else None
    return ("rank_lost", f"another rank is gone: {line}", "That rank's own log says why.") if line else None


def _anything(error: BaseException, subject: Subject) -> Found:
    return "crash", "".join(traceback.format_exception(error)).strip(), ""


RULES: tuple[Rule, ...] = (_told, _data, _shared_memory, _memory, _worker, _port, _timeout, _lost_peer, _anything)


def _of_ranks(error: BaseException) -> bool:
    """Whether it comes from what ranks tell each other; gloo raises plain RuntimeErrors."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _line(pattern: re.Pattern[str], error: BaseException) -> str:
    found = pattern.search(str(error))
    return found[0].strip() if found else ""
