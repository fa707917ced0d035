"""What a format must offer.

Torch is not imported here: what runs an ONNX file needs none of it, and its memory would be counted.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from trainer.export.source import Source

Arrays = list[np.ndarray]
"""A model's inputs or outputs in its order, the batch in front."""
Run = Callable[[Arrays], Arrays]
"""One forward pass of any number of samples."""


class Format(Protocol):
    """A module with these is a format: one form of a model that runs without this project."""

    __name__: str
    FILE: str

    def write(self, source: "Source", path: Path) -> None:
        """Write the model to ``path``, in a package where the formats before this one are already."""

    def load(self, path: Path) -> Run:
        """What was written, ready to run on one CPU thread."""
