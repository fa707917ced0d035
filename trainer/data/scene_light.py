"""Light and weather of the synthetic scenes: what hour, weather and region do to the paint."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from trainer.data.scene_world import Colour, Conditions

Array = npt.NDArray[Any]

SKY_FROM = 100.0  # metres: what is deeper than this is sky
NOISE = {"day": 0.018, "dusk": 0.022, "night": 0.028}


@dataclass(frozen=True)
class Region:
    """What a region looks like; ``hills`` is their colour, or None on the plain."""

    grass: Colour
    foliage: Colour
    asphalt: Colour
    paving: Colour
    marking: Colour
    walls: tuple[Colour, ...]
    conifers: bool = False
    hills: Colour | None = None


REGIONS = {
    "north": Region(
        (0.3, 0.38, 0.3),
        (0.1, 0.25, 0.17),
        (0.3, 0.31, 0.33),
        (0.55, 0.56, 0.6),
        (0.92, 0.92, 0.92),
        ((0.5, 0.52, 0.56), (0.62, 0.62, 0.64), (0.45, 0.42, 0.42)),
        conifers=True,
    ),
    "south": Region(
        (0.62, 0.55, 0.32),
        (0.42, 0.44, 0.16),
        (0.42, 0.39, 0.36),
        (0.72, 0.65, 0.54),
        (0.95, 0.93, 0.85),
        ((0.85, 0.72, 0.5), (0.88, 0.8, 0.68), (0.78, 0.52, 0.36)),
    ),
    "east": Region(
        (0.36, 0.5, 0.24),
        (0.2, 0.4, 0.14),
        (0.36, 0.36, 0.36),
        (0.6, 0.56, 0.54),
        (0.95, 0.8, 0.3),
        ((0.6, 0.3, 0.22), (0.5, 0.24, 0.2), (0.66, 0.42, 0.32)),
    ),
    "west": Region(
        (0.24, 0.52, 0.2),
        (0.12, 0.45, 0.16),
        (0.25, 0.26, 0.28),
        (0.62, 0.62, 0.58),
        (0.94, 0.94, 0.9),
        ((0.8, 0.8, 0.82), (0.6, 0.7, 0.78), (0.82, 0.76, 0.6)),
        hills=(0.3, 0.42, 0.4),
    ),
}


@dataclass(frozen=True)
class Hour:
    """``sun`` multiplies the paint; the sky goes from ``zenith`` to ``horizon``; ``haze`` is the fog's colour."""

    sun: Colour
    zenith: Colour
    horizon: Colour
    haze: Colour
    headlights: float
    glow: float


HOURS = {
    "day": Hour((1.0, 1.0, 0.98), (0.38, 0.58, 0.88), (0.78, 0.87, 0.95), (0.78, 0.8, 0.82), 0.0, 0.15),
    "dusk": Hour((0.68, 0.55, 0.52), (0.26, 0.26, 0.46), (0.95, 0.58, 0.34), (0.56, 0.46, 0.44), 0.15, 0.7),
    "night": Hour((0.17, 0.18, 0.25), (0.02, 0.02, 0.06), (0.06, 0.06, 0.11), (0.15, 0.15, 0.18), 0.7, 1.0),
}


def light(paint: Array, glow: Array, depth: Array, conditions: Conditions, rng: np.random.Generator) -> Array:
    """The picture, H×W×3 RGB uint8, of ``paint`` and ``glow`` (H×W×3, 0-1) at ``depth`` (H×W, metres)."""
    hour = HOURS[conditions.time_of_day]
    sky = depth > SKY_FROM
    picture = paint * (np.array(hour.sun) + _headlights(depth, hour)[..., None])
    picture = np.where(sky[..., None], _sky(depth.shape, hour, conditions.weather, rng), picture)
    if conditions.weather == "rain":
        picture = _wet(picture, sky, rng)
    if conditions.weather != "clear":
        picture = _hazy(picture, depth, hour, 0.045 if conditions.weather == "fog" else 0.01)
    picture = _glowing(picture, glow * hour.glow, 3.0 if conditions.weather == "clear" else 4.5)
    if conditions.weather == "rain":
        picture = _streaked(picture, rng)
    picture = picture * float(rng.uniform(0.92, 1.08))
    picture += rng.normal(0, NOISE[conditions.time_of_day], picture.shape)
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _headlights(depth: Array, hour: Hour) -> Array:
    """The cone of one's own headlights: fades with distance, weaker to the sides."""
    columns = np.linspace(-1, 1, depth.shape[1])
    return hour.headlights * np.exp(-depth / 22) * (1.15 - 0.45 * columns**2)


def _sky(shape: tuple[int, ...], hour: Hour, weather: str, rng: np.random.Generator) -> Array:
    share = np.clip(np.arange(shape[0]) / (0.42 * shape[0]), 0, 1)[:, None, None]
    picture = np.array(hour.zenith) * (1 - share) + np.array(hour.horizon) * share
    clouds = cv2.GaussianBlur(rng.random((10, 20)).astype(np.float32), (0, 0), 1.0)
    clouds = cv2.resize(clouds, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)[..., None]
    picture = picture + (clouds - 0.5) * 0.5 * picture.mean()
    grey = picture.mean(axis=2, keepdims=True) * np.array((0.95, 0.98, 1.0))
    dull: Array = 0.2 * picture + 0.7 * grey
    return picture if weather == "clear" else dull


def _wet(picture: Array, sky: Array, rng: np.random.Generator) -> Array:
    """Darker and greyer, with what is above the horizon mirrored in the ground."""
    height, horizon = picture.shape[0], int(np.flatnonzero(sky.any(axis=1)).max(initial=0)) + 1
    dull = 0.82 * (0.7 * picture + 0.3 * picture.mean(axis=2, keepdims=True))
    mirror = cv2.GaussianBlur(picture, (0, 0), 2.5)[np.clip(2 * horizon - np.arange(height), 0, height - 1)]
    below = (np.arange(height) > horizon)[:, None, None]
    puddles = cv2.resize(rng.random((16, 10)).astype(np.float32), picture.shape[1::-1])[..., None]
    return np.asarray(np.where(below, dull + 0.28 * puddles * (mirror - dull), dull))


def _hazy(picture: Array, depth: Array, hour: Hour, density: float) -> Array:
    """Koschmieder's law: contrast falls with ``exp(-density * depth)``."""
    clear = np.exp(-density * np.minimum(depth, 90.0))[..., None]
    hazy: Array = picture * clear + np.array(hour.haze) * (1 - clear)
    return hazy


def _glowing(picture: Array, glow: Array, spread: float) -> Array:
    halo = cv2.GaussianBlur(glow, (0, 0), spread)
    return picture * (1 - 0.8 * np.minimum(glow, 1)) + glow + 2 * halo


def _streaked(picture: Array, rng: np.random.Generator) -> Array:
    """Slanted streaks of rain."""
    height, width = picture.shape[:2]
    streaks = np.zeros((height, width), np.float32)
    for x, y, length in rng.uniform((0, -10, 5), (width, height, 13), (110, 3)):
        end = (int(x + 0.25 * length), int(y + length))
        cv2.line(streaks, (int(x), int(y)), end, float(rng.uniform(0.12, 0.32)), 1)
    bright = np.maximum(picture.mean() * 1.9, 0.45)
    rainy: Array = picture + cv2.GaussianBlur(streaks, (0, 0), 0.5)[..., None] * (bright - 0.4 * picture)
    return rainy
