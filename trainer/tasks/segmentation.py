"""Semantic segmentation: a class for every pixel."""

from collections.abc import Sequence
from typing import Annotated

import cv2
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from torch import nn
from torch.nn import functional

from trainer.contract.errors import ContractError, Problem, problems_of
from trainer.contract.train_config import Task as TaskConfig
from trainer.data.sample import Labelled
from trainer.metrics.iou import IouStatistics, confusion_matrix
from trainer.models.backbones import conv_norm
from trainer.models.necks import merge_finest
from trainer.tasks.base import PALETTE, Task, Tensors, refuse_no_classes

VOID = 255
"""The target value of pixels that neither the loss nor the metric counts."""


class Options(BaseModel):
    """``tasks.segmentation.options`` of a recipe.

    ``ignore_id`` is the mask value that is not scored (values beyond the classes never are);
    ``class_weights`` weighs the classes in the loss.
    """

    model_config = ConfigDict(extra="forbid")

    ignore_id: int = Field(default=VOID, ge=0, le=VOID)
    class_weights: list[Annotated[FiniteFloat, Field(ge=0)]] | None = None


class Segmentation(Task):
    """Cross-entropy on the finest pyramid level, upsampled; mIoU at the mask's own resolution."""

    name = "segmentation"
    headlines = ("mIoU", "pixel_accuracy")

    def __init__(self, classes: Sequence[str], weight: float, options: Options) -> None:
        self.classes, self.weight, self.options = list(classes), weight, options
        values = np.arange(256, dtype=np.uint8)
        known = (values < len(self.classes)) & (values != options.ignore_id)
        self._scored = np.where(known, values, np.uint8(VOID))

    def head(self, channels: int) -> nn.Module:
        return _Head(channels, len(self.classes))

    def targets(self, sample: Labelled) -> Tensors:
        """``mask``: H×W uint8, VOID where nothing is known (the whole image when there is no mask)."""
        if sample.mask is None:
            return {"mask": torch.full((sample.view.out_height, sample.view.out_width), VOID, dtype=torch.uint8)}
        return {"mask": torch.from_numpy(np.ascontiguousarray(self.scored(sample.mask)))}

    def loss(self, outputs: Tensors, targets: Tensors) -> torch.Tensor:
        mask = targets["mask"].long()
        logits = functional.interpolate(outputs["logits"], size=mask.shape[1:], mode="bilinear", align_corners=False)
        weight = self.options.class_weights
        weights = None if weight is None else torch.tensor(weight, device=logits.device, dtype=logits.dtype)
        # The sum over a mean: a batch without a single known pixel has loss 0, not 0/0.
        total = functional.cross_entropy(logits, mask, weights, ignore_index=VOID, reduction="sum")
        return total / (mask != VOID).sum().clamp(min=1)

    def record(self, outputs: Tensors, sample: Labelled) -> np.ndarray | None:
        """The sample's confusion matrix (C×C int64, truth by prediction), None without a mask."""
        if sample.mask is None:
            return None
        return confusion_matrix(self.scored(sample.mask), self._prediction(outputs, sample), len(self.classes))

    def statistics(self, records: Sequence[np.ndarray | None]) -> IouStatistics:
        nothing = np.zeros((len(self.classes), len(self.classes)))
        return IouStatistics([nothing if record is None else record for record in records], self.classes)

    def draw(self, image: np.ndarray, outputs: Tensors, sample: Labelled) -> np.ndarray:
        prediction = self._prediction(outputs, sample)
        return cv2.addWeighted(image, 0.5, PALETTE[prediction % len(PALETTE)], 0.5, 0)

    def scored(self, mask: np.ndarray) -> np.ndarray:
        """``mask`` with VOID for everything that does not count."""
        return cv2.LUT(mask, self._scored)

    def _prediction(self, outputs: Tensors, sample: Labelled) -> np.ndarray:
        logits = functional.interpolate(
            outputs["logits"][None].float(), size=sample.source_size, mode="bilinear", align_corners=False
        )
        return logits[0].argmax(dim=0).to(torch.uint8).cpu().numpy()


class _Head(nn.Module):
    """One 3×3 convolution and a classifier on the pyramid merged at stride 4."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.mix = conv_norm(channels, channels)
        self.classify = nn.Conv2d(channels, classes, 1)

    def forward(self, pyramid: list[torch.Tensor]) -> Tensors:
        return {"logits": self.classify(torch.relu(self.mix(merge_finest(pyramid))))}


def build(config: TaskConfig) -> Segmentation:
    refuse_no_classes("segmentation", config.classes)
    try:
        options = Options.model_validate(config.options)
    except ValidationError as error:
        raise ContractError("options are not usable", problems_of(error, "tasks.segmentation.options")) from None
    given = len(options.class_weights or config.classes)
    if given != len(config.classes):
        problem = Problem(
            "tasks.segmentation.options", str(given), f"{len(config.classes)}, one a class", field="class_weights"
        )
        raise ContractError("options are not usable", [problem])
    return Segmentation(config.classes, config.weight, options)
