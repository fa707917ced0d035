"""A checkpoint of the tiny recipe, untrained but with running statistics of its own."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkpoint(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from trainer.contract.train_config import read_config
    from trainer.engine.checkpointer import Checkpointer
    from trainer.engine.parallel import Ranks
    from trainer.models.hydranet import HydraNet
    from trainer.tasks import build_tasks

    torch.manual_seed(0)
    config = read_config(recipe)
    model = HydraNet(config.model, build_tasks(config.tasks))
    model.train()({"image": torch.randint(0, 256, (4, 3, 64, 64))})
    folder = tmp_path_factory.mktemp("checkpoint")
    state = {"config": config.model_dump_json(), "run_id": "abcd1234", "global_step": 1, "model": model.state_dict()}
    Checkpointer(folder, Ranks(0, 1, torch.device("cpu")), 1).save_best(state)
    return folder / "best.pt"
