"""Semantic segmentation: a class for every pixel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import cv2
import numpy as np
import torch
from pydantic import Field, FiniteFloat
from torch import nn
from torch.nn import functional

from trainer.contract.charts import Chart, Confusion
from trainer.contract.errors import ContractError, Problem
from trainer.contract.train_config import Task as TaskConfig
from trainer.data.sample import Labelled
from trainer.metrics.calibration import CalibrationStatistics, binned
from trainer.metrics.curves import reliability_curve, roc_curves
from trainer.metrics.iou import IouStatistics, confusion_matrix
from trainer.metrics.roc import BINS, chance_histogram
from trainer.metrics.statistics import Among, Joined, Statistics
from trainer.models.backbones import conv_norm
from trainer.models.necks import merge_finest
from trainer.tasks.base import PALETTE, Options, Task, Tensors, options_of, refuse_no_classes

VOID = 255
"""The target value of pixels that neither the loss nor the metric counts."""
SPARSE = 4
"""Pixels between those that calibration and ROC are taken from: neighbours say much the same."""


class SegmentationOptions(Options):
    """``tasks.segmentation.options`` of a recipe.

    ``ignore_id`` is the mask value that is not scored (values beyond the classes never are);
    ``class_weights`` weighs the classes in the loss; ``finest`` is the stride of the finest features, ``finer``
    how many times finer than those the head predicts each way: both for things that are thinner than a cell.
    """

    ignore_id: int = Field(default=VOID, ge=0, le=VOID)
    class_weights: list[Annotated[FiniteFloat, Field(ge=0)]] | None = None
    finest: Literal[2, 4] = 4
    finer: Literal[1, 2, 4] = 1


@dataclass(frozen=True)
class MaskRecord:
    """One sample: ``confusion`` C×C (truth by prediction), and of every fourth pixel each way ``calibration`` 3×15
    (``metrics/calibration.py``) and ``chances`` C×2×60 (``metrics/roc.py``).
    """  # fmt: skip

    confusion: np.ndarray
    calibration: np.ndarray
    chances: np.ndarray


class Segmentation(Task):
    """Cross-entropy on the finest pyramid level or finer, upsampled; mIoU at the mask's own resolution."""

    name = "segmentation"
    headlines = ("mIoU", "pixel_accuracy")

    def __init__(self, classes: Sequence[str], weight: float, options: SegmentationOptions) -> None:
        self.classes, self.weight, self.options, self.finest = list(classes), weight, options, options.finest
        values = np.arange(256, dtype=np.uint8)
        known = (values < len(self.classes)) & (values != options.ignore_id)
        self._scored = np.where(known, values, np.uint8(VOID))

    def head(self, channels: int) -> nn.Module:
        return _Head(channels, len(self.classes), self.options.finer)

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

    def record(self, outputs: Tensors, sample: Labelled) -> MaskRecord | None:
        """None without a mask."""
        if sample.mask is None:
            return None
        truth = self.scored(sample.mask)
        logits = self._logits(outputs, sample)
        confusion = confusion_matrix(truth, _likeliest(logits), len(self.classes))
        some, truth = logits[:, ::SPARSE, ::SPARSE].softmax(dim=0).cpu().numpy(), truth[::SPARSE, ::SPARSE]
        probabilities, known = some[:, truth != VOID], truth[truth != VOID]
        right = probabilities.argmax(axis=0) == known
        return MaskRecord(
            confusion=confusion,
            calibration=binned(probabilities.max(axis=0, initial=0.0), right),
            chances=np.stack(
                [chance_histogram(chances, known == number) for number, chances in enumerate(probabilities)]
            ),
        )

    def statistics(self, records: Sequence[MaskRecord | None]) -> Statistics:
        known = [record for record in records if record is not None]
        parts = Joined(
            IouStatistics([record.confusion for record in known], self.classes),
            CalibrationStatistics([record.calibration for record in known]),
        )
        return Among([record is not None for record in records], parts)

    def charts(self, records: Sequence[MaskRecord | None]) -> list[Chart]:
        known, size = [record for record in records if record is not None], len(self.classes)
        confusion = sum((record.confusion for record in known), np.zeros((size, size), int))
        return [
            roc_curves(sum((record.chances for record in known), np.zeros((size, 2, BINS), int)), self.classes),
            reliability_curve([record.calibration for record in known]),
            Confusion(classes=tuple(self.classes), counts=tuple(tuple(map(int, row)) for row in confusion)),
        ]

    def draw(self, image: np.ndarray, outputs: Tensors, sample: Labelled) -> np.ndarray:
        prediction = _likeliest(self._logits(outputs, sample))
        return cv2.addWeighted(image, 0.5, PALETTE[prediction % len(PALETTE)], 0.5, 0)

    def scored(self, mask: np.ndarray) -> np.ndarray:
        """``mask`` with VOID for everything that does not count."""
        return cv2.LUT(mask, self._scored)

    def _logits(self, outputs: Tensors, sample: Labelled) -> torch.Tensor:
        """C×H×W at the delivered size."""
        logits = outputs["logits"][None].float()
        return functional.interpolate(logits, size=sample.source_size, mode="bilinear", align_corners=False)[0]


def _likeliest(logits: torch.Tensor) -> np.ndarray:
    return logits.argmax(dim=0).to(torch.uint8).cpu().numpy()


class _Head(nn.Module):
    """One 3×3 convolution and a classifier on the pyramid merged at its finest stride.

    A finer head classifies the parts of each cell from the cell's features (sub-pixel convolution, Shi et al., 2016).
    """

    def __init__(self, channels: int, classes: int, finer: int) -> None:
        super().__init__()
        self.mix = conv_norm(channels, channels)
        self.classify = nn.Conv2d(channels, classes * finer**2, 1)
        self.part = nn.PixelShuffle(finer) if finer > 1 else nn.Identity()

    def forward(self, pyramid: list[torch.Tensor]) -> Tensors:
        return {"logits": self.part(self.classify(torch.relu(self.mix(merge_finest(pyramid)))))}


def build(config: TaskConfig) -> Segmentation:
    refuse_no_classes("segmentation", config.classes)
    options = options_of(SegmentationOptions, config, "segmentation")
    given = len(options.class_weights or config.classes)
    if given != len(config.classes):
        problem = Problem(
            "tasks.segmentation.options", str(given), f"{len(config.classes)}, one a class", field="class_weights"
        )
        raise ContractError("options are not usable", [problem])
    return Segmentation(config.classes, config.weight, options)
