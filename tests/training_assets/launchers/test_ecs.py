"""The ECS launcher: every case on ministack whose tasks execute here, what it asks for, what its checks find."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training_assets.launchers.ecs_cases import CASES, Emulated, emulated


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    with emulated(tmp_path_factory.mktemp("ecs")) as parts:
        yield parts


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, cluster: Emulated, tmp_path: Path) -> None:
    with cluster.world(tmp_path) as world:
        CASES[name](world)
