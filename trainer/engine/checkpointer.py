"""Checkpoints on disk: complete or not there.

``checkpoints/step-00000050/`` holds ``state.pt`` and, written last, ``COMPLETE`` with the state's sha256.
``best.pt`` beside them is the best model so far with its recipe: what is evaluated, exported and released.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from trainer.contract.files import atomic_open, sha256_of, sync_directory, write_json
from trainer.models.state import load

MARKER = "COMPLETE"
STATE = "state.pt"
BEST = "best.pt"


class Checkpointer:
    """Saves to and restores from one run directory; keeps the newest ``keep_last`` checkpoints."""

    def __init__(self, run_dir: Path, keep_last: int) -> None:
        self.run_dir, self.root, self.keep_last = run_dir, run_dir / "checkpoints", keep_last

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write ``state`` as the checkpoint of ``step``; older ones go once it is complete."""
        directory = self.root / f"step-{step:08d}"
        # The marker goes first, so that no half-replaced checkpoint counts as complete.
        (directory / MARKER).unlink(missing_ok=True)
        with atomic_open(directory / STATE) as stream:
            torch.save(state, stream)
        write_json(directory / MARKER, {"step": step, "sha256": sha256_of(directory / STATE)})
        sync_directory(self.root)
        for old in list(self._complete())[: -self.keep_last]:
            _remove(old)
        return directory

    def load_latest(self, device: torch.device) -> dict[str, Any] | None:
        """The newest state whose bytes are what its marker says; None when there is none.

        A damaged one is named on standard output and the one before it is used.
        """
        for directory in reversed(list(self._complete())):
            marker = json.loads((directory / MARKER).read_text())
            if sha256_of(directory / STATE) == marker["sha256"]:
                return load(directory / STATE, device)
            print(f"checkpoint {directory} is damaged (sha256 differs from its marker): using the one before it")
        return None

    def save_best(self, state: dict[str, Any]) -> None:
        with atomic_open(self.run_dir / BEST) as stream:
            torch.save(state, stream)

    def _complete(self) -> Iterator[Path]:
        yield from sorted(path.parent for path in self.root.glob(f"step-*/{MARKER}"))


def _remove(directory: Path) -> None:
    (directory / MARKER).unlink()
    shutil.rmtree(directory)
