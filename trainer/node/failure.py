"""Why a node failed, where SageMaker looks for it: it shows the beginning of the file as the job's failure reason."""

import contextlib
from pathlib import Path

from trainer.contract.results import FAILURE_FILE, Failure

OUTPUT = Path("/opt/ml/output")
"""Made by SageMaker in each container of a training job; what is not there is not written to."""

SHOWN = 1024
"""Characters that SageMaker shows (developer guide, "How … Signals Algorithm Success and Failure")."""


def leave_failure(attempt_dir: Path, otherwise: str, output: Path = OUTPUT) -> None:
    """The word that a rank left, or ``otherwise`` where none could."""
    if not output.is_dir():
        return
    text = otherwise
    with contextlib.suppress(OSError, ValueError):
        word = Failure.model_validate_json((attempt_dir / FAILURE_FILE).read_bytes())
        text = f"rank {word.rank}: {word.message}"
    (output / "failure").write_text(text[:SHOWN])
