"""One training at a time in a run directory."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from trainer.contract.attempts import ATTEMPT_VARIABLE, BY_HAND
from trainer.contract.errors import ContractError, Problem
from trainer.contract.nodes import LEADER_VARIABLE
from trainer.engine.parallel import Ranks

LOCK_FILE = ".lock"
ADVICE = (
    "A training outlives the Dagster step that launched it when that step's process is killed; the same run started "
    "again goes on with it. Wait for its end, or stop it with: {stop}. It then saves a checkpoint; start again."
)


@contextlib.contextmanager
def taken(run_dir: Path, ranks: Ranks) -> Iterator[None]:
    """The run directory for this training alone. The kernel gives back what a killed process held.

    Raises:
        ContractError: another training is at work in it; says which, since when, and how to stop it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with open(run_dir / LOCK_FILE, "a+") as lock:
        holder = ""
        if ranks.leads:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.seek(0)
                holder = lock.read() or "{}"
            else:
                lock.truncate(0)
                lock.write(_self())
                lock.flush()
        # Whichever rank's word is heard, it names the holder.
        if holder := ranks.gather(holder)[0]:
            raise _refusal(run_dir, json.loads(holder))
        yield


def _self() -> str:
    """Who holds the lock; where there are ranks, the process to stop is the node's, or their parent."""
    leader = int(os.environ.get(LEADER_VARIABLE) or (os.getppid() if "RANK" in os.environ else os.getpid()))
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    attempt = os.environ.get(ATTEMPT_VARIABLE, BY_HAND)
    return json.dumps({"pid": leader, "host": socket.gethostname(), "since": since, "attempt": attempt})


def _refusal(run_dir: Path, holder: dict[str, str]) -> ContractError:
    who, stop = "another training at work in it", "kill -TERM <its process>"
    if holder:
        who += f": process {holder['pid']} on {holder['host']}, attempt {holder['attempt']}, since {holder['since']}"
        stop = f"kill -TERM {holder['pid']} (on {holder['host']})"
    problem = Problem(str(run_dir), who, "a run directory of its own")
    return ContractError("the run directory is taken", [problem], ADVICE.format(stop=stop))
