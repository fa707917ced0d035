"""What a task must offer."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from trainer.contract.charts import Chart
from trainer.contract.errors import ContractError, Problem, problems_of
from trainer.contract.train_config import Task as TaskConfig
from trainer.data.sample import Labelled
from trainer.metrics.statistics import Statistics, point

Tensors = dict[str, torch.Tensor]
Record = Any
"""What a task keeps of one evaluated sample, enough to compute its metrics on any set of samples."""


class Task(ABC):
    """A head and all that belongs to it. The first headline is the metric to watch.

    ``inputs`` names what the head takes beside the image's features; ``finest`` is the stride that its pyramid begins
    at, 4 or 2; ``weight`` is the task's in the total loss.
    """

    name: str
    headlines: tuple[str, ...]
    weight: float
    inputs: tuple[str, ...] = ()
    finest: int = 4

    @abstractmethod
    def head(self, channels: int) -> nn.Module:
        """A module from the pyramid (strides ``finest`` to 32; ``channels`` each) and ``inputs`` to named outputs.

        Without a camera the pyramid is None and ``channels`` 0.
        """

    def observed(self, sample: Labelled) -> Tensors:
        """For evaluation: the ``inputs`` of one sample as they are."""
        return {}

    def example(self, samples: int) -> Tensors:
        """``inputs`` of so many samples, of the right shapes and types: to export with and to count FLOPs."""
        return {}

    @abstractmethod
    def targets(self, sample: Labelled) -> Tensors:
        """For training: what the loss compares with, and the ``inputs``, of equal shapes for all samples.

        Runs in the loader's workers.
        """

    @abstractmethod
    def loss(self, outputs: Tensors, targets: Tensors) -> torch.Tensor:
        """The scalar loss of a batch, without the task's weight."""

    @abstractmethod
    def record(self, outputs: Tensors, sample: Labelled) -> Record:
        """What one sample (``outputs`` without the batch dimension) adds to the metrics."""

    @abstractmethod
    def statistics(self, records: Sequence[Record]) -> Statistics:
        """``records`` as what metrics are computed from."""

    @abstractmethod
    def draw(self, image: np.ndarray, outputs: Tensors, sample: Labelled) -> np.ndarray:
        """``image`` (H×W×3 RGB, as delivered) with one sample's prediction drawn on it."""

    def metrics(self, records: Sequence[Record]) -> dict[str, float | None]:
        """The metrics over ``records``; None where one is not defined."""
        return point(self.statistics(records))

    def charts(self, records: Sequence[Record]) -> list[Chart]:
        """Curves and confusion matrices over ``records``, at most one of a kind."""
        return []


class Options(BaseModel):
    """What a task calls its ``options`` in a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AnyOptions = TypeVar("AnyOptions", bound=Options)


def options_of(kind: type[AnyOptions], config: TaskConfig, name: str) -> AnyOptions:
    """The task's own options.

    Raises:
        ContractError: one is wrong or not known.
    """
    try:
        return kind.model_validate(config.options)
    except ValidationError as error:
        raise ContractError("options are not usable", problems_of(error, f"tasks.{name}.options")) from None


def refuse_no_classes(name: str, classes: Sequence[str]) -> None:
    """
    Raises:
        ContractError: ``classes`` is empty: there is nothing that a head could tell apart.
    """
    if not classes:
        problem = Problem("recipe", "no classes", "at least one", field=f"tasks.{name}.classes")
        raise ContractError("the recipe's tasks are not usable", [problem])


PALETTE = np.array(
    [
        (128, 64, 128), (244, 210, 66), (244, 35, 232), (70, 130, 180), (90, 90, 90), (107, 142, 35),
        (0, 0, 230), (220, 20, 60), (119, 11, 32), (250, 170, 30), (190, 153, 153), (0, 200, 200),
    ],
    dtype=np.uint8,
)  # fmt: skip
"""RGB colours of classes, after Cityscapes' labels; repeated beyond twelve."""
