"""Checkpoints without a training."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trainer.contract.train_config import TrainConfig
    from trainer.models.hydranet import HydraNet


@pytest.fixture(scope="session")
def save_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> "Callable[[TrainConfig, HydraNet], Path]":
    """Writes a network as ``best.pt`` of a run."""
    import torch

    from trainer.engine.checkpointer import Checkpointer
    from trainer.engine.parallel import Ranks

    def save(config: "TrainConfig", model: "HydraNet") -> Path:
        folder = tmp_path_factory.mktemp("checkpoint")
        what = {"config": config.model_dump_json(), "run_id": "abcd1234", "global_step": 1, "model": model.state_dict()}
        Checkpointer(folder, Ranks(0, 1, torch.device("cpu")), 1).save_best(what)
        return folder / "best.pt"

    return save


@pytest.fixture(scope="session")
def checkpoint(recipe: Path, save_checkpoint: "Callable[[TrainConfig, HydraNet], Path]") -> Path:
    """Of the tiny recipe, untrained but with running statistics of its own."""
    import torch

    from trainer.contract.train_config import read_config
    from trainer.models.hydranet import HydraNet
    from trainer.tasks import build_tasks

    torch.manual_seed(0)
    config = read_config(recipe)
    model = HydraNet(config.model, build_tasks(config.tasks))
    model.train()({"image": torch.randint(0, 256, (4, 3, 64, 64))})
    return save_checkpoint(config, model)
