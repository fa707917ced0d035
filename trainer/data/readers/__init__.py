"""Readers of data sets as others publish them: each one writes a delivery.

A reader is a module that follows :class:`Reader`; a new one is a new file here and a line in ``READERS``.
"""

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Protocol, cast

Progress = Callable[[int, int], None]
"""``progress(done, total)``."""

READERS = {
    "bdd100k": "trainer.data.readers.bdd100k",
    "camvid": "trainer.data.readers.camvid",
    "coco": "trainer.data.readers.coco",
    "eth_ucy": "trainer.data.readers.eth_ucy",
    "kitti": "trainer.data.readers.kitti",
    "nuscenes": "trainer.data.readers.nuscenes",
    "tusimple": "trainer.data.readers.tusimple",
    "voc": "trainer.data.readers.voc",
}
"""``python -m trainer import <name>`` → the module that does it."""


class Reader(Protocol):
    """What a reader module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare SRC, OUT and the reader's own options."""

    def run(self, arguments: argparse.Namespace, progress: Progress | None) -> None:
        """Write the delivery that ``arguments`` ask for.

        Raises:
            ContractError: names every problem of the source.
        """


def reader_named(name: str) -> Reader:
    """The reader module called ``name`` in ``READERS``."""
    return cast(Reader, import_module(READERS[name]))
