"""One file a task: targets, head, loss, decoding and metric. A recipe names a task by its file's name."""

from collections.abc import Mapping
from importlib import import_module

from trainer.contract.train_config import Task as TaskConfig
from trainer.tasks.base import Record, Task

__all__ = ["Record", "Task", "build_tasks"]


def build_tasks(configs: Mapping[str, TaskConfig]) -> list[Task]:
    """The tasks of a recipe, in its order; ``trainer/tasks/<name>.py`` offers each as ``build``.

    Raises:
        ModuleNotFoundError: there is no such task.
        ContractError: the task's options are wrong.
    """
    return [import_module(f"{__name__}.{name}").build(config) for name, config in configs.items()]
