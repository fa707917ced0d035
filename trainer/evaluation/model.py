"""A released or best checkpoint as a model again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of
from trainer.contract.train_config import TrainConfig
from trainer.models.hydranet import HydraNet
from trainer.models.state import load
from trainer.tasks import Task, build_tasks


@dataclass(frozen=True)
class Checkpoint:
    """``best.pt``: the model in evaluation mode, its recipe and tasks, and where it came from."""

    model: HydraNet
    config: TrainConfig
    tasks: list[Task]
    run_id: str
    global_step: int
    sha256: str


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """The model of ``path``.

    Raises:
        ContractError: the file is missing or is no checkpoint of this project.
    """
    state = _state(path, device)
    config = TrainConfig.model_validate_json(state["config"])
    tasks = build_tasks(config.tasks)
    model = HydraNet(config.model, tasks, config.data.camera).to(device)
    model.load_state_dict(state["model"])
    return Checkpoint(model.eval(), config, tasks, state["run_id"], state["global_step"], sha256_of(path))


def _state(path: Path, device: torch.device | str) -> dict[str, Any]:
    expected = "a best.pt that `python -m trainer train` wrote"
    if not path.is_file():
        raise ContractError("no checkpoint", [Problem(str(path), "nothing", expected)])
    try:
        state = load(path, device)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        raise ContractError("not a checkpoint", [Problem(str(path), found, expected)]) from error
    if missing := {"config", "model", "run_id", "global_step"} - set(state):
        raise ContractError("not a checkpoint", [Problem(str(path), f"no {sorted(missing)}", expected)])
    return state
