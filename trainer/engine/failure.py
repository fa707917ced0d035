"""Leaves word of why an attempt failed, where the launcher finds it."""

import contextlib
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

from trainer.contract.errors import ContractError
from trainer.contract.files import write_text
from trainer.contract.results import FAILURE_FILE, Failure
from trainer.engine.callbacks.checkpoints import Stop
from trainer.engine.callbacks.finite import NotFinite
from trainer.engine.loop import GateFailed


@contextlib.contextmanager
def explained(run_dir: Path) -> Iterator[None]:
    """Write ``run_dir/failure.json`` for what ends the block early, and pass it on; the first rank's word stays."""
    path = run_dir / FAILURE_FILE
    rank = int(os.environ.get("RANK", 0))
    if rank == 0:
        path.unlink(missing_ok=True)
    try:
        yield
    except BaseException as error:
        if not path.exists() and not (isinstance(error, SystemExit) and not error.code):
            verdict = error.verdict if isinstance(error, GateFailed) else None
            failure = Failure(kind=_kind(error), message=_message(error), rank=rank, verdict=verdict)
            write_text(path, failure.model_dump_json(indent=2) + "\n")
        raise


def _kind(error: BaseException) -> str:
    kinds = {ContractError: "bad_input", Stop: "stopped", NotFinite: "not_finite", GateFailed: "gate"}
    return next((kind for cls, kind in kinds.items() if isinstance(error, cls)), "crash")


def _message(error: BaseException) -> str:
    if isinstance(error, ContractError | Stop | GateFailed):
        return str(error)
    return "".join(traceback.format_exception(error)).strip()
