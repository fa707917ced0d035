"""``epochs.jsonl``: how a training goes, a line for each epoch, while it is at work and afterwards."""

from pathlib import Path

from trainer.contract.results import Epoch

EPOCHS_FILE = "epochs.jsonl"


def read_epochs(run_dir: Path) -> tuple[Epoch, ...]:
    """The epochs so far of the training in ``run_dir``, the first one first; none before the first has ended.

    A resumed training does again what it lost with its last checkpoint: for a while the last epochs are gone, and
    then come back with the same figures.
    """
    try:
        content = (run_dir / EPOCHS_FILE).read_bytes()
    except FileNotFoundError:
        return ()
    # What follows the last newline is being written.
    whole = content[: content.rfind(b"\n") + 1]
    return tuple(Epoch.model_validate_json(line) for line in whole.splitlines())
