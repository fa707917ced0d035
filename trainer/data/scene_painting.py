"""Painting a synthetic scene: from metres to pixels, mask and boxes.

Everything is drawn far to near at ``SCALE`` times the size, then averaged down. The mask and the boxes come from
the same polygons as the picture, so they match it, occlusion included.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from trainer.contract.manifest import Box
from trainer.data.scene_light import REGIONS, light
from trainer.data.scene_world import Agent, Colour, House, Lamp, Marking, Tree, World

WIDTH, HEIGHT = 160, 128
SCALE = 3
FOCAL = 110.0
HORIZON = 50.0
EYE = 1.5
NEAREST, FARTHEST, SKY_DEPTH = 2.0, 60.0, 150.0
SUBPIXEL = 4  # bits, as cv2's `shift`

CLASSES = ("road", "lane_marking", "sidewalk", "sky", "building", "vegetation", "vehicle", "pedestrian")
IGNORE = 255
ROAD, LANE_MARKING, SIDEWALK, SKY, BUILDING, VEGETATION, VEHICLE, PEDESTRIAN = range(len(CLASSES))
HIDDEN = 0.3  # an agent of which less is seen is marked `ignore`
SMALLEST = 4.0  # and so is one whose box has a shorter side, in pixels
UNSEEN = 2.0

Array = npt.NDArray[Any]
Points = Sequence[tuple[float, float]]
RUBBER: Colour = (0.06, 0.06, 0.07)
GLASS: Colour = (0.2, 0.26, 0.32)
POLE: Colour = (0.42, 0.43, 0.45)
LAMP_LIGHT: Colour = (1.0, 0.85, 0.5)
HEAD_LIGHT: Colour = (1.0, 1.0, 0.85)
TAIL_LIGHT: Colour = (1.0, 0.08, 0.05)


@dataclass(frozen=True)
class Painted:
    """One frame: ``image`` H×W×3 RGB uint8, ``mask`` H×W uint8, boxes, lanes, and the agents that are seen."""

    image: Array
    mask: Array
    boxes: tuple[Box, ...]
    lanes: tuple[tuple[tuple[float, float], ...], ...]
    seen: tuple[Agent, ...]


class Canvas:
    """Colour, class, depth (metres), light given off and agent number of each (fine) pixel."""

    def __init__(self) -> None:
        size = (HEIGHT * SCALE, WIDTH * SCALE)
        self.colour = np.zeros((*size, 3), np.float32)
        self.glow = np.zeros((*size, 3), np.float32)
        self.depth = np.full(size, SKY_DEPTH, np.float32)
        self.label = np.full(size, SKY, np.uint8)
        self.owner = np.full(size, -1, np.int16)

    def fill(
        self, points: Points, colour: Colour, label: int, depth: float, owner: int = -1, glow: Colour = (0, 0, 0)
    ) -> None:
        """Paint the polygon ``points`` (pixels of the final picture) over what is there."""
        corners = np.asarray(points, np.float64) * SCALE - 0.5
        fixed = [np.round(np.clip(corners, -4000, 4000) * (1 << SUBPIXEL)).astype(np.int32)]
        for plane, value in (
            (self.colour, colour),
            (self.glow, glow),
            (self.depth, depth),
            (self.label, label),
            (self.owner, owner),
        ):
            cv2.fillPoly(plane, fixed, value, shift=SUBPIXEL)


def paint(world: World, rng: np.random.Generator) -> Painted:
    """The picture of ``world`` and what is in it."""
    canvas = Canvas()
    _paint_ground(canvas, world, rng)
    areas = _paint_upright(canvas, world)
    image = light(_averaged(canvas.colour), _averaged(canvas.glow), _averaged(canvas.depth), world.conditions, rng)
    mask = canvas.label[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE].copy()
    found = [(_box(canvas.owner == number, area, agent), agent) for number, agent, area in areas]
    return Painted(
        image=image,
        mask=mask,
        boxes=tuple(box for box, _ in found if box is not None),
        lanes=tuple(lane for marking in world.markings if len(lane := _lane(world, marking)) > 1),
        seen=tuple(agent for box, agent in found if box is not None and not box.ignore),
    )


def project(x: float, y: float, z: float) -> tuple[float, float]:
    """Metres to pixels (column, row)."""
    return WIDTH / 2 + FOCAL * x / z, HORIZON + FOCAL * (EYE - y) / z


def _averaged(plane: Array) -> Array:
    return cv2.resize(plane, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def _box(visible: Array, area: int, agent: Agent) -> Box | None:
    """The box around the visible pixels of an agent that covers ``area`` pixels when nothing hides it."""
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    if not len(rows):
        return None
    left, top = columns[0] / SCALE, rows[0] / SCALE
    width, height = (columns[-1] + 1) / SCALE - left, (rows[-1] + 1) / SCALE - top
    if min(width, height) < UNSEEN:
        return None
    ignore = bool(np.count_nonzero(visible) < HIDDEN * area or min(width, height) < SMALLEST)
    bbox = tuple(round(float(value), 2) for value in (left, top, width, height))
    return Box.model_validate({"category": agent.category, "bbox": bbox, "ignore": ignore})


def _lane(world: World, marking: Marking) -> tuple[tuple[float, float], ...]:
    """The marking's line in pixels, near to far, where it is in the picture."""
    rows = np.arange(HEIGHT - 1, HORIZON + 4, -6.0)
    depths = FOCAL * EYE / (rows - HORIZON)
    points = [project(marking.x + world.shift(z), 0, z) for z in depths]
    return tuple((round(float(u), 2), round(float(v), 2)) for u, v in points if 0 <= u <= WIDTH - 1)


def _paint_ground(canvas: Canvas, world: World, rng: np.random.Generator) -> None:
    region = REGIONS[world.conditions.region]
    rows = (np.arange(HEIGHT * SCALE) + 0.5) / SCALE
    below = rows > HORIZON
    canvas.depth[below] = np.minimum(FOCAL * EYE / (rows[below] - HORIZON), SKY_DEPTH)[:, None]
    canvas.colour[~below] = 1.0
    canvas.colour[below] = region.grass
    canvas.label[below] = VEGETATION
    ground = partial(_strip, canvas, world)
    if world.road.sidewalk:
        ground(world.left - world.road.sidewalk, world.right + world.road.sidewalk, region.paving, SIDEWALK)
        ground(world.left - 0.15, world.right + 0.15, (0.72, 0.71, 0.68), SIDEWALK)
    ground(world.left, world.right, region.asphalt, ROAD)
    offset = float(rng.uniform(0, 6))
    for marking in world.markings:
        for near, far in _dashes(offset) if marking.dashed else [(NEAREST * 0.7, FARTHEST)]:
            ground(marking.x - 0.09, marking.x + 0.09, region.marking, LANE_MARKING, near, far)
    _roughen(canvas, below, rng)
    if region.hills:
        _paint_hills(canvas, region.hills, rng)


def _dashes(offset: float) -> Iterable[tuple[float, float]]:
    return ((max(start, 1.4), start + 3) for start in np.arange(offset - 4, 40, 6.0) if start + 3 > 1.5)


def _strip(
    canvas: Canvas,
    world: World,
    left: float,
    right: float,
    colour: Colour,
    label: int,
    near: float = NEAREST * 0.7,
    far: float = FARTHEST,
) -> None:
    """A strip of ground along the road. Depth stays as the ground's rows have it."""
    depths = 1 / np.linspace(1 / near, 1 / far, 24)
    there = [project(left + world.shift(z), 0, z) for z in depths]
    back = [project(right + world.shift(z), 0, z) for z in depths[::-1]]
    depth = canvas.depth.copy()
    canvas.fill([*there, *back], colour, label, 0)
    canvas.depth = depth


def _roughen(canvas: Canvas, below: Array, rng: np.random.Generator) -> None:
    """Patches on the ground: coarse noise that gets finer with distance."""
    size = canvas.depth.shape
    for cells, strength in ((12, 0.05), (40, 0.06)):
        noise = cv2.resize(rng.normal(0, strength, (cells, cells)).astype(np.float32), size[::-1])
        canvas.colour[below] *= 1 + noise[below][..., None]


def _paint_hills(canvas: Canvas, colour: Colour, rng: np.random.Generator) -> None:
    phases = rng.uniform(0, 6.28, 3)
    columns = np.arange(0, WIDTH + 4, 4.0)
    heights = 9 + 5 * np.sin(columns / 23 + phases[0]) + 3 * np.sin(columns / 9 + phases[1])
    ridge = [(float(u), HORIZON - float(h)) for u, h in zip(columns, heights, strict=True)]
    canvas.fill([*ridge, (WIDTH + 4, HORIZON + 0.5), (0, HORIZON + 0.5)], colour, VEGETATION, 90.0)


def _paint_upright(canvas: Canvas, world: World) -> list[tuple[int, Agent, int]]:
    """Draw what stands up, far to near; each agent's number, itself, and its area before anything hid it."""
    areas: list[tuple[int, Agent, int]] = []

    def paint_agent(number: int, agent: Agent) -> None:
        AGENTS[agent.category](canvas, world, agent, number)
        areas.append((number, agent, int(np.count_nonzero(canvas.owner == number))))

    things: list[tuple[float, Callable[[], None]]] = []
    things += [(tree.z, partial(_paint_tree, canvas, world, tree)) for tree in world.trees]
    things += [(lamp.z, partial(_paint_lamp, canvas, world, lamp)) for lamp in world.lamps]
    things += [(agent.z, partial(paint_agent, number, agent)) for number, agent in enumerate(world.agents)]
    for house in world.houses:
        things += _house_parts(canvas, world, house)
    for _, draw in sorted(things, key=lambda thing: -thing[0]):
        draw()
    return areas


def _upright(x: float, z: float, width: float, low: float, high: float) -> Points:
    """A rectangle that faces the camera, ``x`` its middle."""
    (left, top), (right, bottom) = project(x - width / 2, high, z), project(x + width / 2, low, z)
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _disc(x: float, y: float, z: float, radius_x: float, radius_y: float, count: int = 14) -> Points:
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return [project(x + radius_x * np.cos(a), y + radius_y * np.sin(a), z) for a in angles]


def shade(colour: Colour, factor: float) -> Colour:
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def _house_parts(canvas: Canvas, world: World, house: House) -> list[tuple[float, Callable[[], None]]]:
    """The facade along the road in pieces of about 3 m, and the wall that faces the camera."""
    walls = REGIONS[world.conditions.region].walls
    colour = walls[house.shade % len(walls)]
    cuts = np.linspace(house.z, house.z + house.length, max(2, round(house.length / 3)) + 1)
    parts: list[tuple[float, Callable[[], None]]] = []
    for index, (near, far) in enumerate(pairwise(cuts.tolist())):
        piece = partial(_paint_facade, canvas, world, house, shade(colour, 0.8), index, near, far)
        parts.append((far, piece))
    parts.append((house.z - 0.01, partial(_paint_gable, canvas, world, house, colour)))
    return parts


def _paint_gable(canvas: Canvas, world: World, house: House, colour: Colour) -> None:
    middle = house.x + world.shift(house.z) + house.depth / 2
    canvas.fill(_upright(middle, house.z, abs(house.depth), 0, house.height), colour, BUILDING, house.z)
    for floor in np.arange(1.0, house.height - 1.5, 2.8):
        for column in (-0.3, 0.0, 0.3):
            window = _upright(middle + column * abs(house.depth), house.z, 1.3, floor, floor + 1.4)
            _window(canvas, window, house, int(floor) + round(column * 10), house.z)


def _paint_facade(
    canvas: Canvas, world: World, house: House, colour: Colour, index: int, near: float, far: float
) -> None:
    canvas.fill(_along(world, house.x, near, far, 0, house.height), colour, BUILDING, (near + far) / 2)
    third = (far - near) / 3
    for floor in np.arange(1.0, house.height - 1.5, 2.8):
        window = _along(world, house.x, near + third, far - third / 2, floor, floor + 1.4)
        _window(canvas, window, house, index * 5 + int(floor), (near + far) / 2)


def _along(world: World, x: float, near: float, far: float, low: float, high: float) -> Points:
    here, there = x + world.shift(near), x + world.shift(far)
    corners = ((here, low, near), (here, high, near), (there, high, far), (there, low, far))
    return [project(*corner) for corner in corners]


def _window(canvas: Canvas, points: Points, house: House, number: int, depth: float) -> None:
    lit = house.lit >> (number % 16) & 1 and number % 3 != 0
    canvas.fill(points, GLASS, BUILDING, depth, glow=shade(LAMP_LIGHT, 0.45) if lit else (0, 0, 0))


def _paint_tree(canvas: Canvas, world: World, tree: Tree) -> None:
    region = REGIONS[world.conditions.region]
    x, rng = tree.x + world.shift(tree.z), np.random.default_rng(tree.seed)
    canvas.fill(_upright(x, tree.z, 0.3, 0, tree.height * 0.5), (0.3, 0.22, 0.15), VEGETATION, tree.z)
    if region.conifers:
        for low, wide in ((0.2, 1.5), (0.45, 1.1), (0.7, 0.7)):
            tips = [(x - wide, low * tree.height), (x + wide, low * tree.height), (x, (low + 0.42) * tree.height)]
            colour = shade(region.foliage, float(rng.uniform(0.8, 1.2)))
            canvas.fill([project(u, y, tree.z) for u, y in tips], colour, VEGETATION, tree.z)
        return
    for _ in range(7):
        u, y = x + float(rng.normal(0, 0.6)), tree.height * float(rng.uniform(0.5, 0.9))
        blob = _disc(u, y, tree.z, float(rng.uniform(0.6, 1.1)), float(rng.uniform(0.6, 1.0)))
        canvas.fill(blob, shade(region.foliage, float(rng.uniform(0.7, 1.3))), VEGETATION, tree.z)


def _paint_lamp(canvas: Canvas, world: World, lamp: Lamp) -> None:
    x, side = lamp.x + world.shift(lamp.z), 1 if lamp.x < 0 else -1
    canvas.fill(_upright(x, lamp.z, 0.14, 0, 5.2), POLE, IGNORE, lamp.z)
    canvas.fill(_upright(x + side * 0.5, lamp.z, 1.1, 5.1, 5.25), POLE, IGNORE, lamp.z)
    canvas.fill(_upright(x + side * 0.9, lamp.z, 0.6, 4.85, 5.1), (0.8, 0.8, 0.75), IGNORE, lamp.z, glow=LAMP_LIGHT)


def _paint_shadow(canvas: Canvas, x: float, agent: Agent, label: int) -> None:
    corners = [(x - agent.width * 0.6, agent.z), (x + agent.width * 0.6, agent.z)]
    back = [(u, agent.z + agent.length * 0.6) for u, _ in corners[::-1]]
    canvas.fill([project(u, 0, z) for u, z in [*corners, *back]], (0.1, 0.1, 0.1), label, agent.z)


def _paint_vehicle(canvas: Canvas, world: World, agent: Agent, number: int) -> None:
    x, z, far = agent.x + world.shift(agent.z), agent.z, agent.z + agent.length
    body = partial(canvas.fill, label=VEHICLE, depth=z, owner=number)
    half, high, belt = agent.width / 2, agent.height, agent.height * (0.55 if agent.height < 2 else 0.6)
    _paint_shadow(canvas, x, agent, ROAD)
    edge = x - half if x > 0 else x + half
    side = [project(edge, y, d) for y, d in ((0.25, z), (belt, z), (belt, far), (0.25, far))]
    body(side, colour=shade(agent.colour, 0.6))
    roof = 0.78 if high < 2 else 1.0
    cabin = [project(edge * 1.0, belt, z + 0.3), project(x + (edge - x) * roof, high, z + 0.8)]
    cabin += [project(x + (edge - x) * roof, high, far - 0.8), project(edge, belt, far - 0.2)]
    body(cabin, colour=shade(GLASS, 0.8) if high < 2 else shade(agent.colour, 0.65))
    for offset in (-0.36, 0.36):
        body(_upright(x + offset * agent.width, z, 0.28, 0, 0.5), colour=RUBBER)
    body(_upright(x, z, agent.width, 0.25, belt), colour=agent.colour)
    top = [project(x - half, belt, z), project(x - half * roof, high, z)]
    top += [project(x + half * roof, high, z), project(x + half, belt, z)]
    body(top, colour=shade(agent.colour, 0.9))
    body(_upright(x, z, agent.width * 0.66, belt + 0.06, high - 0.12), colour=GLASS)
    lamp = HEAD_LIGHT if agent.oncoming else TAIL_LIGHT
    for offset in (-0.4, 0.4):
        body(_upright(x + offset * agent.width, z, 0.3, belt - 0.28, belt - 0.06), colour=lamp, glow=lamp)
    body(_upright(x, z, agent.width * 0.3, 0.35, 0.5), colour=(0.85, 0.85, 0.8))


def _paint_pedestrian(canvas: Canvas, world: World, agent: Agent, number: int) -> None:
    x, z, tall = agent.x + world.shift(agent.z), agent.z, agent.height
    part = partial(canvas.fill, label=PEDESTRIAN, depth=z, owner=number)
    stride = 0.16 if agent.turn > 0 else 0.1
    for leg in (-stride, stride):
        part(_upright(x + leg, z, 0.2, 0, tall * 0.5), colour=(0.14, 0.15, 0.25))
    part(_upright(x, z, 0.5, tall * 0.45, tall * 0.84), colour=agent.colour)
    for arm in (-0.31, 0.31):
        part(_upright(x + arm, z, 0.14, tall * 0.48, tall * 0.8), colour=shade(agent.colour, 0.75))
    part(_disc(x, tall * 0.92, z, 0.15, tall * 0.08), colour=(0.85, 0.65, 0.52))


def _paint_cyclist(canvas: Canvas, world: World, agent: Agent, number: int) -> None:
    x, z, tall = agent.x + world.shift(agent.z), agent.z, agent.height
    part = partial(canvas.fill, label=IGNORE, depth=z, owner=number)
    for wheel in (-0.32, 0.32):
        part(_disc(x + wheel, 0.33, z, 0.27, 0.33), colour=RUBBER)
        part(_disc(x + wheel, 0.33, z, 0.16, 0.2), colour=(0.55, 0.55, 0.55))
    frame = [(x - 0.32, 0.33), (x - 0.05, 0.85), (x + 0.3, 0.9), (x + 0.05, 0.35)]
    part([project(u, y, z) for u, y in frame], colour=(0.85, 0.2, 0.1))
    part(_upright(x - 0.02, z, 0.2, 0.4, tall * 0.6), colour=(0.12, 0.12, 0.2))
    torso = [(x - 0.2, tall * 0.5), (x - 0.06, tall * 0.86), (x + 0.24, tall * 0.84), (x + 0.14, tall * 0.5)]
    part([project(u, y, z) for u, y in torso], colour=agent.colour)
    part(_disc(x + 0.14, tall * 0.92, z, 0.15, tall * 0.08), colour=(0.9, 0.9, 0.2))


AGENTS: dict[str, Callable[[Canvas, World, Agent, int], None]] = {
    "vehicle": _paint_vehicle,
    "pedestrian": _paint_pedestrian,
    "cyclist": _paint_cyclist,
}
