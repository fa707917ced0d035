"""Running a reader as the command line does, and pictures for made-up sources."""

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainer.contract.delivery import Delivery, read_delivery
from trainer.contract.errors import ContractError, Problem
from trainer.data.readers import reader_named

Import = Callable[..., Delivery]
Refused = Callable[..., list[Problem]]


def run(name: str, source: Path, out: Path, *options: str) -> None:
    parser = argparse.ArgumentParser()
    reader = reader_named(name)
    reader.add_arguments(parser)
    reader.run(parser.parse_args([str(source), str(out), *options]), None)


@pytest.fixture
def imported(tmp_path: Path) -> Import:
    """``imported(format, source, *options)``: the delivery that the reader writes, wholly checked."""

    def call(name: str, source: Path, *options: str) -> Delivery:
        run(name, source, tmp_path / "out", *options)
        return read_delivery(tmp_path / "out")

    return call


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    """``refused(format, source, *options)``: the problems of a source that must not become a delivery."""

    def call(name: str, source: Path, *options: str) -> list[Problem]:
        with pytest.raises(ContractError) as caught:
            run(name, source, tmp_path / "out", *options)
        assert not (tmp_path / "out").exists()
        return caught.value.problems

    return call


@pytest.fixture
def draw() -> Callable[..., None]:
    """``draw(path, width, height)`` writes a picture of its own bytes, in colours that JPEG tells apart."""
    count = iter(range(1, 1 << 20))

    def call(path: Path, width: int = 32, height: int = 24) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = next(count)
        picture = np.full((height, width, 3), (37 * number % 256, 91 * number % 256, number // 256 * 16), np.uint8)
        assert cv2.imwrite(str(path), picture)

    return call
