"""Trainings in the tests' own process run on one thread, as a rank does."""

import pytest


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
