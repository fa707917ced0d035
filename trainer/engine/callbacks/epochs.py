"""Keeps ``epochs.jsonl``, from which others learn how the run goes while it is at work."""

from pathlib import Path

from trainer.contract.epochs import EPOCHS_FILE
from trainer.contract.files import write_text
from trainer.contract.results import Epoch
from trainer.engine.loop import Callback, Trainer


class Epochs(Callback):
    """One line for each epoch, written by the leading rank; after a resume, first those of the checkpoint."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / EPOCHS_FILE

    def before_training(self, trainer: Trainer) -> None:
        if trainer.ranks.leads:
            write_text(self.path, "".join(_line(Epoch.model_validate(epoch)) for epoch in trainer.progress.epochs))

    def after_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        if trainer.ranks.leads:
            with open(self.path, "a") as stream:
                stream.write(_line(epoch))


def _line(epoch: Epoch) -> str:
    return epoch.model_dump_json() + "\n"
