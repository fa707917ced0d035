"""Lane detection by rows, after Ultra Fast Lane Detection (Qin et al., 2020).

A lane has one of a few slots, counted from the middle of the image outwards. For each slot and each row of a coarse
map the head says whether the lane is there, and where: a distribution over the columns, whose mean is the place.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from trainer.contract.train_config import Task as TaskConfig
from trainer.data.sample import Labelled
from trainer.metrics.culane import LaneF1Statistics, match_lanes
from trainer.metrics.statistics import Among, Joined, Statistics
from trainer.metrics.tusimple import TusimpleStatistics, frame_score
from trainer.models.backbones import conv_norm
from trainer.models.necks import merge_finest
from trainer.tasks.base import PALETTE, Options, Task, Tensors, options_of

STRIDE = 8
LEVEL_STEP = 10.0
"""Pixels between the heights that TuSimple's accuracy is taken at."""
ABSENT = -2.0
BAND = 2
"""Columns to each side of the likeliest one that the place is averaged over."""


class LaneOptions(Options):
    """``tasks.lanes.options`` of a recipe."""

    slots: int = Field(default=6, ge=2, le=16, multiple_of=2, description="Most lanes, half of them to each side.")
    threshold: float = Field(default=0.5, gt=0, lt=1, description="Least probability that a lane is in a row.")
    min_rows: int = Field(default=3, ge=2, description="Least rows of a lane that is told.")
    presence_weight: float = Field(default=1.0, gt=0, description="Of the presence loss beside that of the place.")


class LaneDetection(Task):
    """Polylines in pixels of the delivered image; scored as TuSimple and CULane do."""

    name = "lanes"
    headlines = ("F1", "accuracy")

    def __init__(self, weight: float, options: LaneOptions) -> None:
        self.weight, self.options = weight, options

    def head(self, channels: int) -> nn.Module:
        return _Head(channels, self.options.slots)

    def targets(self, sample: Labelled) -> Tensors:
        """On h rows (stride 8): ``place`` K×h columns (fractions count), ``present`` K×h, ``known`` 0 or 1."""
        rows, columns = -(-sample.view.out_height // STRIDE), -(-sample.view.out_width // STRIDE)
        place = np.zeros((self.options.slots, rows), np.float32)
        present = np.zeros_like(place)
        if sample.row.lanes is not None:
            levels = (np.arange(rows) + 0.5) * STRIDE
            lanes = [sample.view.points(np.array(lane, np.float64)) for lane in sample.row.lanes]
            for slot, lane in slots_of(lanes, sample.view.out_width, sample.view.out_height, self.options.slots):
                across = places_at(lane, levels)
                place[slot] = across / STRIDE - 0.5
                present[slot] = (across >= 0) & (across <= sample.view.out_width)
            place = np.where(present > 0, place.clip(0, columns - 1), 0).astype(np.float32)
        return {
            "place": torch.from_numpy(place),
            "present": torch.from_numpy(present),
            "known": torch.tensor(float(sample.row.lanes is not None)),
        }

    def loss(self, outputs: Tensors, targets: Tensors) -> torch.Tensor:
        present, known = targets["present"], targets["known"][:, None, None]
        logits, place = outputs["where"], targets["place"]
        lower = place.floor().long().clamp(max=logits.shape[3] - 1)
        upper = (lower + 1).clamp(max=logits.shape[3] - 1)
        share, log = place - lower, logits.log_softmax(dim=3)
        # Cross-entropy with the two columns that the place lies between, and the distance of the mean place.
        likely = [log.gather(3, column[..., None])[..., 0] for column in (lower, upper)]
        columns = torch.arange(logits.shape[3], device=logits.device, dtype=logits.dtype)
        distance = ((log.exp() * columns).sum(dim=3) - place).abs()
        where = (0.1 * distance - (1 - share) * likely[0] - share * likely[1]) * present * known
        presence = functional.binary_cross_entropy_with_logits(outputs["present"], present, reduction="none") * known
        total = where.sum() / (present * known).sum().clamp(min=1)
        return total + self.options.presence_weight * presence.sum() / (known.sum() * presence[0].numel()).clamp(min=1)

    def record(self, outputs: Tensors, sample: Labelled) -> tuple[np.ndarray, np.ndarray] | None:
        """What TuSimple's and CULane's metrics count in the sample; None without labels."""
        if sample.row.lanes is None:
            return None
        truth = [np.array(lane, np.float64) for lane in sample.row.lanes]
        found = self.decode(outputs, sample)
        levels = np.arange(0.0, sample.source_size[0], LEVEL_STEP)
        score = frame_score(_at_levels(found, levels), _at_levels(truth, levels), levels)
        return score, match_lanes(found, truth, sample.source_size)

    def statistics(self, records: Sequence[tuple[np.ndarray, np.ndarray] | None]) -> Statistics:
        known = [record for record in records if record is not None]
        parts = Joined(LaneF1Statistics([one for _, one in known]), TusimpleStatistics([one for one, _ in known]))
        return Among([record is not None for record in records], parts)

    def decode(self, outputs: Tensors, sample: Labelled) -> list[np.ndarray]:
        """The lanes as N×2 points x, y from top to bottom, in pixels of the delivered image."""
        (height, width), view = sample.source_size, sample.view
        probability = outputs["where"].float().softmax(dim=2)
        slots, rows, columns = probability.shape
        best = probability.argmax(dim=2, keepdim=True)
        near = (torch.arange(columns, device=best.device) - best).abs() <= BAND
        weights = torch.where(near, probability, 0.0)
        place = (weights * (torch.arange(columns, device=best.device) + 0.5)).sum(dim=2) / weights.sum(dim=2)
        across = (place * STRIDE * width / view.out_width).cpu().numpy().astype(np.float64)
        down = (np.arange(rows) + 0.5) * STRIDE * height / view.out_height
        there = (outputs["present"].float().sigmoid() >= self.options.threshold).cpu().numpy()
        lanes = [np.stack([across[slot, there[slot]], down[there[slot]]], axis=1) for slot in range(slots)]
        return [_to_the_edges(lane) for lane in lanes if len(lane) >= self.options.min_rows]

    def draw(self, image: np.ndarray, outputs: Tensors, sample: Labelled) -> np.ndarray:
        drawn, thickness = image.copy(), max(1, image.shape[1] // 300)
        for lane in sample.row.lanes or ():
            cv2.polylines(drawn, [np.round(lane).astype(np.int32)], False, (255, 255, 255), thickness)
        for number, found in enumerate(self.decode(outputs, sample)):
            colour = tuple(int(part) for part in PALETTE[(6 + number) % len(PALETTE)])
            cv2.polylines(drawn, [np.round(found).astype(np.int32)], False, colour, thickness)
        return drawn


class _Head(nn.Module):
    """On the merged pyramid at stride 8: a map of columns for each slot, and from a whole row whether it is there."""

    def __init__(self, channels: int, slots: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            conv_norm(channels, channels, stride=2), nn.ReLU(), conv_norm(channels, channels), nn.ReLU()
        )
        self.where = nn.Conv2d(channels, slots, 1)
        self.rows = nn.Sequential(
            nn.Conv1d(2 * channels, channels, 5, padding=2), nn.ReLU(), nn.Conv1d(channels, slots, 1)
        )

    def forward(self, pyramid: list[torch.Tensor]) -> Tensors:
        mixed = self.mix(merge_finest(pyramid))
        across = torch.cat([mixed.mean(dim=3), mixed.amax(dim=3)], dim=1)
        return {"where": self.where(mixed), "present": self.rows(across)}


def slots_of(lanes: Sequence[np.ndarray], width: int, height: int, slots: int) -> list[tuple[int, np.ndarray]]:
    """Each lane (N×2 points x, y) with its slot: ``slots / 2 - 1, …, 0`` from the middle to the left, the others right.

    A lane's side and order are where it, or its straight continuation, meets the bottom of the image; those that find
    no slot are left out.
    """
    ends = sorted((_at_bottom(lane, height), number) for number, lane in enumerate(lanes))
    left = [number for place, number in ends if place < width / 2][::-1]
    right = [number for place, number in ends if place >= width / 2]
    half = slots // 2
    chosen = [(half - 1 - rank, number) for rank, number in enumerate(left[:half])]
    chosen += [(half + rank, number) for rank, number in enumerate(right[:half])]
    return [(slot, lanes[number]) for slot, number in chosen]


def _at_bottom(lane: np.ndarray, height: int) -> float:
    ordered = lane[np.argsort(lane[:, 1], kind="stable")]
    low, lower = ordered[-2], ordered[-1]
    fall = lower[1] - low[1]
    slope = (lower[0] - low[0]) / fall if fall > 0 else 0.0
    return float(lower[0] + slope * (height - lower[1]))


def _to_the_edges(lane: np.ndarray) -> np.ndarray:
    """``lane`` from the upper edge of its first row to the lower edge of its last: rows are known by their middle."""
    ends = [lane[0] - (lane[1] - lane[0]) / 2, lane[-1] + (lane[-1] - lane[-2]) / 2]
    return np.concatenate([ends[:1], lane, ends[1:]])


def _at_levels(lanes: Sequence[np.ndarray], levels: np.ndarray) -> np.ndarray:
    """L×S: each lane's x at ``levels``, as TuSimple writes them."""
    found = np.array([places_at(lane, levels) for lane in lanes]).reshape(-1, len(levels))
    return np.asarray(np.nan_to_num(found, nan=ABSENT))


def places_at(lane: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Where ``lane`` (N×2 points x, y) crosses each of ``levels`` (y); NaN above and below it."""
    ordered = lane[np.argsort(lane[:, 1], kind="stable")]
    return np.asarray(np.interp(levels, ordered[:, 1], ordered[:, 0], left=np.nan, right=np.nan))


def build(config: TaskConfig) -> LaneDetection:
    return LaneDetection(config.weight, options_of(LaneOptions, config, "lanes"))
