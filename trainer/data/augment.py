"""From the image as delivered to the image that the network sees, and where its pixels went."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate

from trainer.contract.train_config import Augmentation

FROM_GREY = np.arange(256) - 127.5


@dataclass(frozen=True)
class View:
    """A crop of the source image, scaled to the network's size and perhaps mirrored; pixel units throughout."""

    x: int
    y: int
    width: int
    height: int
    out_height: int
    out_width: int
    mirrored: bool = False

    def image(self, source: np.ndarray) -> np.ndarray:
        """The view of ``source`` (H×W×3, uint8): bilinear, wider where it shrinks so that nothing aliases.

        PyTorch's resampling of uint8 pixels is that of Pillow, and several times as fast as OpenCV's by area.
        """
        crop = np.ascontiguousarray(source[self.y : self.y + self.height, self.x : self.x + self.width])
        pixels = torch.from_numpy(crop)[None].permute(0, 3, 1, 2)
        scaled = interpolate(pixels, (self.out_height, self.out_width), mode="bilinear", antialias=True)
        return self._mirrored(scaled[0].permute(1, 2, 0).numpy())

    def mask(self, source: np.ndarray) -> np.ndarray:
        """The view of a label mask (H×W), without mixing labels."""
        crop = source[self.y : self.y + self.height, self.x : self.x + self.width]
        return self._mirrored(
            cv2.resize(crop, (self.out_width, self.out_height), interpolation=cv2.INTER_NEAREST_EXACT)
        )

    def _mirrored(self, pixels: np.ndarray) -> np.ndarray:
        return cv2.flip(pixels, 1) if self.mirrored else pixels

    def points(self, source: np.ndarray) -> np.ndarray:
        """``source`` (…×2, x and y in source pixels) in the view's pixels."""
        scale = np.array([self.out_width / self.width, self.out_height / self.height])
        moved: np.ndarray = (source - np.array([self.x, self.y])) * scale
        if self.mirrored:
            moved[..., 0] = self.out_width - moved[..., 0]
        return moved

    def corners(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N×4, x y w h in source pixels) as N×4 x1 y1 x2 y2 in the view, clipped to it."""
        both = np.stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        moved = self.points(both.astype(np.float64))
        low, high = moved.min(axis=1), moved.max(axis=1)
        limit = np.array([self.out_width, self.out_height])
        return np.concatenate([np.clip(low, 0, limit), np.clip(high, 0, limit)], axis=1)


def whole(source: tuple[int, int], size: tuple[int, int]) -> View:
    """The whole image of ``source`` (height, width) at ``size`` (height, width)."""
    return View(0, 0, source[1], source[0], size[0], size[1])


def random_view(
    source: tuple[int, int], size: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
) -> View:
    """A random crop and mirror image within the ranges of ``augmentation``."""
    zoom = rng.uniform(*augmentation.scale)
    height, width = (max(1, round(side / zoom)) for side in source)
    y, x = int(rng.integers(source[0] - height + 1)), int(rng.integers(source[1] - width + 1))
    return View(x, y, width, height, *size, mirrored=bool(rng.random() < augmentation.flip))


def jitter(image: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Random brightness and contrast (about mid-grey) of a uint8 image."""
    contrast = 1 + rng.uniform(-1, 1) * augmentation.contrast
    brightness = rng.uniform(-1, 1) * augmentation.brightness
    table = FROM_GREY * contrast + 127.5 * (1 + brightness)
    return cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8))
