"""The checkpoint as PyTorch runs it: no format, but what every format is compared with."""

from pathlib import Path

from trainer.evaluation.model import load_checkpoint
from trainer.export.passes import Run
from trainer.export.source import Positional, torch_run


def load(path: Path) -> Run:
    return torch_run(Positional(load_checkpoint(path).model))
