"""What the drift gate compares: a few numbers of each sample, from the image as delivered and from its labels."""

from collections import Counter
from collections.abc import Iterable

import cv2
import numpy as np

from trainer.contract.manifest import Row
from trainer.contract.slices import Slices

SIDE = 256
REC_601_RGB = np.array([0.299, 0.587, 0.114])
IMAGE_FEATURES = ("brightness", "contrast", "red", "green", "blue", "sharpness")

Features = dict[str, float]
"""A sample's features by name; what was not annotated is not there."""


def sample_features(image: np.ndarray | None, mask: np.ndarray | None, row: Row, slices: Slices) -> Features:
    """The features of an image (H×W×3 uint8 RGB), its mask (H×W uint8), its boxes and its tracks."""
    seen = {} if image is None else image_features(image)
    return {**seen, **_box_counts(row), **_class_shares(mask, slices), **_motion(row)}


def image_features(image: np.ndarray) -> Features:
    """Of the image shrunk to 256 pixels: mean and spread of the luma (Rec. 601, 0…255), channel means, sharpness.

    Sharpness is ``log(1 + variance of the Laplacian)`` (Pech-Pacheco et al., Diatom autofocusing, 2000).
    """
    scale = min(1.0, SIDE / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    luma = small @ REC_601_RGB
    values = (luma.mean(), luma.std(), *small.mean(axis=(0, 1)), np.log1p(cv2.Laplacian(luma, cv2.CV_64F).var()))
    return {name: float(value) for name, value in zip(IMAGE_FEATURES, values, strict=True)}


def _box_counts(row: Row) -> Features:
    if row.boxes is None:
        return {}
    counts = Counter(box.category for box in row.boxes if not box.ignore)
    return {"boxes": float(counts.total()), **{f"boxes.{category}": float(n) for category, n in counts.items()}}


def _motion(row: Row) -> Features:
    """How many agents there are, and how fast they went on average in their past (m/s)."""
    if row.tracks is None:
        return {}
    paths = [(np.diff(track.points[: track.observed], axis=0), track.hz) for track in row.tracks if track.observed > 1]
    speeds = [float(np.linalg.norm(steps, axis=1).mean()) * hz for steps, hz in paths]
    return {"agents": float(len(row.tracks)), **({"speed": float(np.mean(speeds))} if speeds else {})}


def _class_shares(mask: np.ndarray | None, slices: Slices) -> Features:
    """The share of each class in the pixels that are labelled."""
    semantic = slices.labels.semantic
    if mask is None or semantic is None:
        return {}
    counts = np.bincount(mask.reshape(-1), minlength=256)[: len(semantic.classes)]
    return {
        f"semantic.{name}": float(n / max(1, counts.sum())) for name, n in zip(semantic.classes, counts, strict=True)
    }


def column(rows: Iterable[Features], name: str) -> list[float]:
    """One feature of the samples that have it; an annotated sample without boxes of a category has none of them."""
    default = 0.0 if name.startswith("boxes.") else None
    values = (row.get(name, default if "boxes" in row else None) for row in rows)
    return [value for value in values if value is not None]
