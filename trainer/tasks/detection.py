"""Object detection without anchors, after TTFNet (Liu et al., Training-Time-Friendly Network, 2019).

Each object is a Gaussian in the heat map of its class; the pixels of that Gaussian regress the distances to the
four sides of its box. Decoding takes the local maxima: no anchors, no matching.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from trainer.contract.charts import Chart
from trainer.contract.errors import ContractError, Problem
from trainer.contract.manifest import Box, Row
from trainer.contract.train_config import Task as TaskConfig
from trainer.data.sample import Labelled
from trainer.metrics.box_confusion import SURE, box_confusion, confused_pairs
from trainer.metrics.calibration import CalibrationStatistics, binned
from trainer.metrics.coco_statistics import ClassMatches, CocoStatistics, match
from trainer.metrics.curves import precision_recall, reliability_curve
from trainer.metrics.statistics import Joined, Statistics
from trainer.models.backbones import conv_norm
from trainer.models.necks import merge_finest
from trainer.tasks.base import PALETTE, Options, Task, Tensors, options_of, refuse_no_classes

STRIDE = 4
SPREAD = 0.54
"""Share of a box's sides that its Gaussian covers (TTFNet's alpha and beta)."""
PRIOR = 0.01
"""Score of an untrained head (Lin et al., Focal Loss, 2017): keeps the first loss from exploding."""


class DetectionOptions(Options):
    """``tasks.detection.options`` of a recipe."""

    max_detections: int = Field(default=100, ge=1)
    score_threshold: float = Field(default=0.01, ge=0, lt=1)
    nms_iou: float = Field(default=0.5, gt=0, le=1)
    box_loss_weight: float = Field(default=2.0, gt=0)


@dataclass(frozen=True)
class BoxRecord:
    """One sample: its ``matches`` by class number, and the ``pairs`` K×2 of ``metrics/box_confusion.py``."""

    matches: dict[int, ClassMatches]
    pairs: np.ndarray


class Detection(Task):
    """Heat map and box distances at stride 4; COCO's metrics in pixels of the delivered image."""

    name = "detection"
    headlines = ("AP", "AP50")

    def __init__(self, classes: Sequence[str], weight: float, options: DetectionOptions) -> None:
        self.classes, self.weight, self.options = list(classes), weight, options

    def head(self, channels: int) -> nn.Module:
        return _Head(channels, len(self.classes))

    def targets(self, sample: Labelled) -> Tensors:
        """At stride 4 (h×w): ``heat`` C×h×w, ``box`` 4×h×w (l, t, r, b in strides), ``weight`` h×w, ``valid`` h×w."""
        height, width = sample.view.out_height // STRIDE, sample.view.out_width // STRIDE
        target = _Target(len(self.classes), height, width)
        boxes = sample.row.boxes
        if boxes is None:
            target.valid[:] = 0
        elif boxes:
            corners = sample.view.corners(np.array([box.bbox for box in boxes])) / STRIDE
            sides = corners[:, 2:] - corners[:, :2]
            # Large boxes first: where two overlap, the smaller one decides.
            for index in np.argsort(-sides.prod(axis=1), kind="stable"):
                if sides[index].min() * STRIDE < 1:
                    continue
                if boxes[index].ignore:
                    target.ignore(corners[index])
                else:
                    target.add(self._number(boxes[index], sample.row), corners[index])
        return target.tensors()

    def loss(self, outputs: Tensors, targets: Tensors) -> torch.Tensor:
        heat = _focal_loss(outputs["heat"], targets["heat"], targets["valid"])
        weight = targets["weight"]
        overlap = _generalised_iou(_distances(outputs["box"]), targets["box"])
        box = ((1 - overlap) * weight).sum() / weight.sum().clamp(min=1e-4)
        return heat + self.options.box_loss_weight * box

    def record(self, outputs: Tensors, sample: Labelled) -> BoxRecord:
        """The sample's detections matched with the truth in pixels as delivered; nothing without labels."""
        if sample.row.boxes is None:
            return BoxRecord({}, np.zeros((0, 2), np.int16))
        boxes, scores, classes = self.decode(outputs, sample.source_size)
        truth = np.array([box.bbox for box in sample.row.boxes], np.float64).reshape(-1, 4)
        crowd = np.array([box.ignore for box in sample.row.boxes], bool)
        kinds = np.array([self._number(box, sample.row) for box in sample.row.boxes], int)
        matches = {
            int(number): match(boxes[classes == number], scores[classes == number], truth[kinds == number],
                               crowd[kinds == number])
            for number in np.union1d(classes, kinds)
        }  # fmt: skip
        return BoxRecord(matches, confused_pairs(boxes, scores, classes, truth, kinds, crowd))

    def statistics(self, records: Sequence[BoxRecord]) -> Statistics:
        return Joined(
            CocoStatistics([record.matches for record in records], self.classes),
            CalibrationStatistics([_calibration(record) for record in records]),
        )

    def charts(self, records: Sequence[BoxRecord]) -> list[Chart]:
        return [
            precision_recall(CocoStatistics([record.matches for record in records], self.classes)),
            reliability_curve([_calibration(record) for record in records]),
            box_confusion([record.pairs for record in records], self.classes),
        ]

    def draw(self, image: np.ndarray, outputs: Tensors, sample: Labelled) -> np.ndarray:
        drawn = image.copy()
        for box in sample.row.boxes or ():
            _rectangle(drawn, np.array(box.bbox), (255, 255, 255), "")
        boxes, scores, classes = self.decode(outputs, sample.source_size)
        for box, score, category in zip(boxes, scores, classes, strict=True):
            if score >= SURE:
                colour = tuple(int(part) for part in PALETTE[(6 + category) % len(PALETTE)])
                _rectangle(drawn, box, colour, f"{self.classes[category]} {score:.2f}")
        return drawn

    def decode(self, outputs: Tensors, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes N×4 xywh in pixels of ``size`` (height, width), scores N and classes N, best first."""
        heat, box = outputs["heat"].float().sigmoid(), _distances(outputs["box"][None].float())[0]
        peaks = heat * (functional.max_pool2d(heat[None], 3, 1, 1)[0] == heat)
        scores, places = peaks.flatten().topk(min(self.options.max_detections, peaks.numel()))
        kept = scores > self.options.score_threshold
        scores, places = scores[kept], places[kept]
        _, height, width = heat.shape
        category, y, x = places // (height * width), places % (height * width) // width, places % width
        centre = torch.stack([x, y], dim=1) + 0.5
        left, top, right, bottom = box[:, y, x]
        low, high = centre - torch.stack([left, top], 1), centre + torch.stack([right, bottom], 1)
        scale = torch.tensor([size[1] / width, size[0] / height], device=low.device)
        limit = torch.tensor([size[1], size[0]], device=low.device)
        low, high = ((corner * scale).clamp(min=0).minimum(limit) for corner in (low, high))
        boxes = torch.cat([low, high - low], dim=1).cpu().numpy().astype(np.float64)
        keep = suppress(boxes, category.cpu().numpy(), self.options.nms_iou)
        return boxes[keep], scores.cpu().numpy().astype(np.float64)[keep], category.cpu().numpy()[keep]

    def _number(self, box: Box, row: Row) -> int:
        """
        Raises:
            ContractError: the recipe does not know the category.
        """
        if box.category not in self.classes:
            problem = Problem(f"sample '{row.sample_id}'", f"a box of '{box.category}'", f"one of {self.classes}")
            raise ContractError("the recipe does not know a category", [problem], "Add it to tasks.detection.classes.")
        return self.classes.index(box.category)


def _calibration(record: BoxRecord) -> np.ndarray:
    """How often detections of a score find something (at IoU 0.5)."""
    counted = [(one.scores, one.hit[0, 0], ~one.ignored[0, 0]) for one in record.matches.values()]
    scores = [scores[kept] for scores, _, kept in counted]
    hits = [hit[kept] for _, hit, kept in counted]
    return binned(np.concatenate([np.zeros(0), *scores]), np.concatenate([np.zeros(0, bool), *hits]))


class _Head(nn.Module):
    """A 3×3 tower each for the heat map and the distances, on the pyramid merged at stride 4."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.heat = nn.Sequential(conv_norm(channels, channels), nn.ReLU(), nn.Conv2d(channels, classes, 1))
        self.box = nn.Sequential(conv_norm(channels, channels), nn.ReLU(), nn.Conv2d(channels, 4, 1))
        nn.init.constant_(self.heat[-1].bias, float(np.log(PRIOR / (1 - PRIOR))))  # type: ignore[arg-type]

    def forward(self, pyramid: list[torch.Tensor]) -> Tensors:
        merged = merge_finest(pyramid)
        return {"heat": self.heat(merged), "box": self.box(merged)}


def _distances(raw: torch.Tensor) -> torch.Tensor:
    """The head's raw output as distances in strides: positive, about 2 when untrained, at most e^8."""
    return torch.exp(raw.clamp(max=7.0) + 0.7)


class _Target:
    """The dense target of one sample at stride 4."""

    def __init__(self, classes: int, height: int, width: int) -> None:
        self.heat = np.zeros((classes, height, width), np.float32)
        self.box = np.ones((4, height, width), np.float32)
        self.weight = np.zeros((height, width), np.float32)
        self.valid = np.ones((height, width), np.float32)
        self.xs, self.ys = np.arange(width) + 0.5, np.arange(height) + 0.5

    def add(self, category: int, corners: np.ndarray) -> None:
        x1, y1, x2, y2 = corners
        gaussian = np.outer(self._bell(self.ys, y1, y2), self._bell(self.xs, x1, x2)).astype(np.float32)
        gaussian /= gaussian.max()
        self.heat[category] = np.maximum(self.heat[category], gaussian)
        inside = np.outer((self.ys > y1) & (self.ys < y2), (self.xs > x1) & (self.xs < x2)) | (gaussian == 1)
        own = inside & (gaussian > 0.2)
        # Each object's pixels sum to log(area): large ones count more, not by their area (TTFNet, equation 6).
        share = gaussian / gaussian[own].sum() * np.log(max((x2 - x1) * (y2 - y1), 1.0) + 1)
        self.weight[own] = share[own]
        sides = [self.xs[None, :] - x1, self.ys[:, None] - y1, x2 - self.xs[None, :], y2 - self.ys[:, None]]
        for side, distance in enumerate(sides):
            self.box[side][own] = np.broadcast_to(distance, own.shape)[own].clip(min=0.05)

    def ignore(self, corners: np.ndarray) -> None:
        x1, y1, x2, y2 = corners
        self.valid[np.outer((self.ys > y1) & (self.ys < y2), (self.xs > x1) & (self.xs < x2))] = 0

    def tensors(self) -> Tensors:
        return {name: torch.from_numpy(getattr(self, name)) for name in ("heat", "box", "weight", "valid")}

    @staticmethod
    def _bell(places: np.ndarray, low: float, high: float) -> np.ndarray:
        centre = places[np.abs(places - (low + high) / 2).argmin()]
        sigma = max(SPREAD * (high - low) / 6, 0.3)
        return np.asarray(np.exp(-((places - centre) ** 2) / (2 * sigma**2)))


def _focal_loss(logits: torch.Tensor, heat: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Penalty-reduced focal loss over the peaks' count (Law and Deng, CornerNet, 2018, equation 1)."""
    score, valid = logits.sigmoid(), valid[:, None]
    peak = (heat == 1).float()
    hit = peak * (1 - score) ** 2 * functional.logsigmoid(logits)
    miss = (1 - peak) * (1 - heat) ** 4 * score**2 * functional.logsigmoid(-logits)
    return -((hit + miss) * valid).sum() / (peak * valid).sum().clamp(min=1)


def _generalised_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """GIoU (Rezatofighi et al., 2019) of boxes N×4×h×w given as distances l, t, r, b from the same pixel."""
    area = (a[:, 0] + a[:, 2]) * (a[:, 1] + a[:, 3]) + (b[:, 0] + b[:, 2]) * (b[:, 1] + b[:, 3])
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    overlap = (low[:, 0] + low[:, 2]) * (low[:, 1] + low[:, 3])
    hull = (high[:, 0] + high[:, 2]) * (high[:, 1] + high[:, 3])
    union = area - overlap
    return overlap / union - (hull - union) / hull


def suppress(boxes: np.ndarray, classes: np.ndarray, iou: float) -> np.ndarray:
    """Indices of the boxes (N×4 xywh, best first) that no better box of their class overlaps by more than ``iou``."""
    x1, y1, x2, y2 = boxes[:, 0], boxes[:, 1], boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]
    area = boxes[:, 2] * boxes[:, 3]
    width = np.minimum.outer(x2, x2) - np.maximum.outer(x1, x1)
    height = np.minimum.outer(y2, y2) - np.maximum.outer(y1, y1)
    overlap = width.clip(min=0) * height.clip(min=0)
    union = np.add.outer(area, area) - overlap
    rivals = (overlap > iou * union) & np.equal.outer(classes, classes)
    kept = np.ones(len(boxes), bool)
    for index in range(len(boxes)):
        if kept[index]:
            kept[index + 1 :] &= ~rivals[index, index + 1 :]
    return np.flatnonzero(kept)


def _rectangle(image: np.ndarray, box: np.ndarray, colour: tuple[int, ...], text: str) -> None:
    x1, y1, x2, y2 = (round(float(v)) for v in (box[0], box[1], box[0] + box[2], box[1] + box[3]))
    thickness = max(1, image.shape[1] // 400)
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, thickness)
    if text:
        size = max(0.3, image.shape[1] / 1600)
        cv2.putText(image, text, (x1, max(y1 - 3, 8)), cv2.FONT_HERSHEY_SIMPLEX, size, colour, thickness, cv2.LINE_AA)


def build(config: TaskConfig) -> Detection:
    refuse_no_classes("detection", config.classes)
    options = options_of(DetectionOptions, config, "detection")
    return Detection(config.classes, config.weight, options)
