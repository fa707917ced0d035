"""One file a task: targets, head, loss, decoding and metric. A recipe names a task by its file's name."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pkgutil import iter_modules

import torch

from trainer.contract.errors import ContractError, Problem
from trainer.contract.train_config import Data
from trainer.contract.train_config import Task as TaskConfig
from trainer.models.hydranet import IMAGE
from trainer.tasks.base import Record, Task, Tensors

NOT_TASKS = ("base",)

__all__ = ["Record", "Task", "build_tasks", "example_inputs"]


def build_tasks(configs: Mapping[str, TaskConfig]) -> list[Task]:
    """The tasks of a recipe, in its order; ``trainer/tasks/<name>.py`` offers each as ``build``.

    Raises:
        ContractError: there is no such task, or its options are wrong.
    """
    known = [module.name for module in iter_modules(__path__) if module.name not in NOT_TASKS]
    unknown = [Problem("tasks", f"'{name}'", f"one of {known}") for name in configs if name not in known]
    if unknown:
        raise ContractError("the recipe's tasks are not usable", unknown)
    return [import_module(f"{__name__}.{name}").build(config) for name, config in configs.items()]


def example_inputs(data: Data, tasks: Sequence[Task], samples: int) -> Tensors:
    """What the network takes for so many samples, of the right shapes: a black image and each task's example."""
    given = {} if data.image_size is None else {IMAGE: torch.zeros(samples, 3, *data.image_size)}
    for task in tasks:
        given |= {f"{task.name}.{name}": value for name, value in task.example(samples).items()}
    return given
