"""Run a model over samples and score what it says."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import default_collate

from trainer.contract.manifest import Row
from trainer.contract.train_config import Data
from trainer.data.loader import EvaluationSamples, to_device
from trainer.data.shards import ShardReader
from trainer.models.hydranet import of_task
from trainer.tasks import Record, Task

BATCH = 8


@dataclass(frozen=True)
class Evaluated:
    """One sample and what each task keeps of it for its metrics."""

    index: int
    row: Row
    records: dict[str, Record]


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    tasks: Sequence[Task],
    reader: ShardReader,
    data: Data,
    indices: Sequence[int],
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> list[Evaluated]:
    """The records of the samples ``indices``, each once, in that order. The model's mode is left as it was."""
    was_training, evaluated = model.training, []
    model.eval()
    samples = EvaluationSamples(reader, data, {task.name: task.observed for task in tasks})
    for begin in range(0, len(indices), BATCH):
        numbers = indices[begin : begin + BATCH]
        chosen, given = zip(*(samples[index] for index in numbers), strict=True)
        outputs = model(to_device(default_collate(list(given)), device))
        for place, (index, sample) in enumerate(zip(numbers, chosen, strict=True)):
            records = {
                task.name: task.record({k: v[place] for k, v in of_task(outputs, task.name).items()}, sample)
                for task in tasks
            }
            evaluated.append(Evaluated(index, sample.row, records))
        if progress is not None:
            progress(len(evaluated), len(indices))
    model.train(was_training)
    return evaluated


def score(evaluated: Sequence[Evaluated], tasks: Sequence[Task]) -> dict[str, float | None]:
    """``<task>/<metric>`` over ``evaluated``."""
    return {
        f"{task.name}/{name}": value
        for task in tasks
        for name, value in task.metrics([one.records[task.name] for one in evaluated]).items()
    }
