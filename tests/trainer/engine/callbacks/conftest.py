"""Real trainings in this process, one rank on the CPU: small enough to run many of them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from trainer.contract.train_config import TrainConfig, read_config
from trainer.data.loader import open_data
from trainer.data.staging import data_directory
from trainer.engine.loop import Callback, Trainer
from trainer.engine.parallel import Ranks

Build = Callable[..., Trainer]


@pytest.fixture(scope="session")
def data(delivery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_directory(delivery, tmp_path_factory.mktemp("staged"), lambda text: None)


@pytest.fixture
def build(recipe: Path, data: Path, tmp_path: Path) -> Build:
    """A trainer of the tiny recipe, 6 steps an epoch; the same run directory resumes."""
    torch.set_num_threads(1)

    def build(callbacks: Sequence[Callback], *overrides: str, run_dir: str = "run", data: Path = data) -> Trainer:
        config: TrainConfig = read_config(recipe, ["data.workers=0", *overrides], environment={})
        ranks = Ranks(0, 1, torch.device("cpu"))
        return Trainer(config, open_data(data, ("train", "val")), tmp_path / run_dir, "abcd1234", ranks, callbacks)

    return build
