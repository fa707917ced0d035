"""What a format must offer."""

from pathlib import Path
from typing import Protocol

from trainer.export.passes import Run
from trainer.export.source import Source


class Format(Protocol):
    """A module with these is a format: one form of a model that runs without this project."""

    __name__: str
    FILE: str

    def write(self, source: Source, path: Path) -> None:
        """Write the model to ``path``, in a package where the formats before this one are already."""

    def load(self, path: Path) -> Run:
        """What was written, ready to run on one CPU thread."""
