"""``torch.export``'s archive, ``.pt2``."""

import warnings
from pathlib import Path

import torch

from trainer.export.passes import Run
from trainer.export.source import Source, torch_run

FILE = "model.pt2"


def write(source: Source, path: Path) -> None:
    torch.export.save(source.program, path)


def load(path: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch_run(torch.export.load(path).module())
