"""TorchScript, for runtimes that have nothing newer. PyTorch has deprecated it: every call of it is in ``_jit``."""

import warnings
from pathlib import Path

from torch import nn

from trainer.export.passes import Run
from trainer.export.source import Source, torch_run

FILE = "model.torchscript.pt"


def write(source: Source, path: Path) -> None:
    _jit(path, source)


def load(path: Path) -> Run:
    return torch_run(_jit(path))


def _jit(path: Path, source: Source | None = None) -> nn.Module:
    """The module at ``path``; ``source`` is traced and saved there first."""
    import torch.jit

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if source is not None:
            # The check would run the trace beside the model once more: every file is compared with it anyway.
            traced = torch.jit.trace(source.model, source.tensors, check_trace=False)  # type: ignore[no-untyped-call]
            torch.jit.save(traced, str(path))
        loaded: nn.Module = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
        return loaded
