"""What stands where in a synthetic driving scene: road, roadside and agents, in metres.

Coordinates are relative to the camera: ``x`` to the right, ``z`` ahead, ``y`` up from the ground.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]
"""Red, green and blue from 0 to 1."""

HZ = 2.5
OBSERVED = 8
TRACK_POINTS = 20


@dataclass(frozen=True)
class Conditions:
    """The attributes of a frame; each of them changes the picture."""

    weather: str
    time_of_day: str
    road_class: str
    region: str


@dataclass(frozen=True)
class RoadClass:
    """The make of a road; lengths in metres, ``houses`` and ``trees`` as shares of the places for them."""

    lanes: int
    lane_width: float
    sidewalk: float
    setback: float
    houses: float
    house_height: tuple[float, float]
    trees: float
    edge_lines: bool
    vehicles: tuple[int, int]
    pedestrians: float
    cyclists: float


ROADS = {
    "highway": RoadClass(3, 3.4, 0.0, 9.0, 0.15, (5, 9), 0.5, True, (2, 4), 0.45, 0.0),
    "urban": RoadClass(2, 3.1, 2.6, 0.4, 0.95, (7, 16), 0.2, True, (1, 3), 0.95, 0.45),
    "residential": RoadClass(2, 2.6, 1.6, 4.0, 0.55, (3.5, 6), 0.75, False, (1, 2), 0.9, 0.55),
}


@dataclass(frozen=True)
class Marking:
    """A painted line along the road, ``x`` metres right of the camera where the road is straight."""

    x: float
    dashed: bool


@dataclass(frozen=True)
class House:
    x: float
    z: float
    length: float
    depth: float
    height: float
    shade: int
    lit: int


@dataclass(frozen=True)
class Tree:
    x: float
    z: float
    height: float
    seed: int


@dataclass(frozen=True)
class Lamp:
    x: float
    z: float


@dataclass(frozen=True)
class Agent:
    """Something that moves: its place, size in metres, velocity in m/s and turn rate in rad/s."""

    category: str
    x: float
    z: float
    width: float
    height: float
    length: float
    colour: Colour
    velocity: tuple[float, float]
    turn: float

    @property
    def oncoming(self) -> bool:
        return self.velocity[1] < 0


@dataclass(frozen=True)
class World:
    """One frame's scene; the road from ``left`` to ``right`` bends sideways by ``bend * z**2 / 2``."""

    conditions: Conditions
    road: RoadClass
    left: float
    right: float
    bend: float
    markings: tuple[Marking, ...]
    houses: tuple[House, ...]
    trees: tuple[Tree, ...]
    lamps: tuple[Lamp, ...]
    agents: tuple[Agent, ...]

    def shift(self, z: float) -> float:
        """How far the road has bent to the right at distance ``z``."""
        return self.bend * z * z / 2


def make_world(conditions: Conditions, rng: np.random.Generator) -> World:
    """A scene that fits ``conditions``."""
    road = ROADS[conditions.road_class]
    ego_lane = road.lanes - 1 if road.lanes == 2 else int(rng.integers(1, road.lanes))
    left = -(ego_lane + 0.5) * road.lane_width + float(rng.uniform(-0.4, 0.4))
    right = left + road.lanes * road.lane_width
    return World(
        conditions=conditions,
        road=road,
        left=left,
        right=right,
        bend=float(rng.uniform(-0.006, 0.006)),
        markings=_markings(road, left),
        houses=_houses(road, left, right, rng),
        trees=_trees(road, left, right, rng),
        lamps=_lamps(road, left, right, rng),
        agents=_agents(road, left, right, rng),
    )


def _markings(road: RoadClass, left: float) -> tuple[Marking, ...]:
    inner = [Marking(left + lane * road.lane_width, True) for lane in range(1, road.lanes)]
    outer = [Marking(left + 0.25, False), Marking(left + road.lanes * road.lane_width - 0.25, False)]
    return tuple(sorted(inner + (outer if road.edge_lines else []), key=lambda marking: marking.x))


def _houses(road: RoadClass, left: float, right: float, rng: np.random.Generator) -> tuple[House, ...]:
    houses = []
    for side, edge in ((-1, left), (1, right)):
        z = float(rng.uniform(4, 9))
        while z < 60:
            length = float(rng.uniform(7, 13))
            if rng.random() < road.houses:
                x = edge + side * (road.sidewalk + road.setback + float(rng.uniform(0, 1.5)))
                height = float(rng.uniform(*road.house_height))
                shade, lit = int(rng.integers(100)), int(rng.integers(1 << 16))
                houses.append(House(x, z, length, side * 9.0, height, shade, lit))
            z += length + float(rng.uniform(0.5, 3))
    return tuple(houses)


def _trees(road: RoadClass, left: float, right: float, rng: np.random.Generator) -> tuple[Tree, ...]:
    trees = []
    for side, edge in ((-1, left), (1, right)):
        for z in np.arange(7, 55, 6.0):
            if rng.random() < road.trees:
                x = edge + side * (road.sidewalk + float(rng.uniform(0.8, 3.5 if road.setback > 1 else 1.0)))
                height = float(rng.uniform(3.5, 7))
                trees.append(Tree(x, float(z + rng.uniform(0, 4)), height, int(rng.integers(1 << 16))))
    return tuple(trees)


def _lamps(road: RoadClass, left: float, right: float, rng: np.random.Generator) -> tuple[Lamp, ...]:
    first = float(rng.uniform(7, 12))
    reach = road.sidewalk * 0.3 + 0.4
    return tuple(Lamp(x, z) for z in np.arange(first, 55, 14.0) for x in (left - reach, right + reach))


def _agents(road: RoadClass, left: float, right: float, rng: np.random.Generator) -> tuple[Agent, ...]:
    agents: list[Agent] = []
    for _ in range(int(rng.integers(road.vehicles[0], road.vehicles[1] + 1))):
        _place(agents, lambda: _vehicle(road, left, rng))
    if rng.random() < road.pedestrians:
        for _ in range(int(rng.integers(1, 4 if road.sidewalk else 2))):
            _place(agents, lambda: _pedestrian(road, left, right, rng))
    if rng.random() < road.cyclists:
        _place(agents, lambda: _cyclist(right, rng))
    return tuple(sorted(agents, key=lambda agent: -agent.z))


def _place(agents: list[Agent], make: Callable[[], Agent]) -> None:
    """Add an agent that stands free of the others, if a few attempts find one."""
    for _ in range(8):
        one = make()
        if all(
            abs(one.z - other.z) > (one.length + other.length) / 2 + 1
            or abs(one.x - other.x) > (one.width + other.width) / 2 + 0.3
            for other in agents
        ):
            agents.append(one)
            return


def _vehicle(road: RoadClass, left: float, rng: np.random.Generator) -> Agent:
    lane = int(rng.integers(road.lanes))
    direction = -1 if road.lanes == 2 and lane == 0 else 1
    truck = rng.random() < 0.2
    width, height, length = (2.3, 2.7, 6.5) if truck else (1.8, 1.5, 4.0)
    x = left + (lane + 0.5) * road.lane_width + float(rng.uniform(-0.2, 0.2))
    speed = float(rng.uniform(18, 28) if road.lanes == 3 else rng.uniform(4, 12))
    # Bright primaries and pale paints: what the eye, and a small network, tells from asphalt.
    colour = [(0.75, 0.1, 0.1), (0.1, 0.25, 0.7), (0.9, 0.9, 0.88), (0.85, 0.65, 0.1), (0.15, 0.15, 0.17)]
    paint = colour[int(rng.integers(len(colour)))]
    z = float(rng.uniform(6.5, 24))
    return Agent("vehicle", x, z, width, height, length, paint, (0.0, direction * speed), 0.0)


def _pedestrian(road: RoadClass, left: float, right: float, rng: np.random.Generator) -> Agent:
    crossing = rng.random() < (0.25 if road.sidewalk else 0.0)
    reach = max(road.sidewalk, 1.2)
    side = -1 if rng.random() < 0.4 else 1
    edge = left if side < 0 else right
    x = float(rng.uniform(left, right)) if crossing else edge + side * float(rng.uniform(0.3, 0.85)) * reach
    z = float(rng.uniform(6, 14))
    walk = float(rng.uniform(0.7, 1.7)) * (1 if rng.random() < 0.5 else -1)
    velocity = (walk, float(rng.normal(0, 0.1))) if crossing else (float(rng.normal(0, 0.1)), walk)
    colour: Colour = tuple(float(part) for part in rng.uniform(0.15, 0.95, 3))  # type: ignore[assignment]
    height = float(rng.uniform(1.6, 1.9))
    return Agent("pedestrian", x, z, 0.75, height, 0.5, colour, velocity, float(rng.normal(0, 0.08)))


def _cyclist(right: float, rng: np.random.Generator) -> Agent:
    x, z = right - float(rng.uniform(0.5, 0.9)), float(rng.uniform(6, 13))
    colour: Colour = tuple(float(part) for part in rng.uniform(0.3, 1.0, 3))  # type: ignore[assignment]
    velocity = (0.0, float(rng.uniform(3, 6)))
    return Agent("cyclist", x, z, 1.1, 1.75, 1.6, colour, velocity, float(rng.normal(0, 0.03)))


def track_of(agent: Agent, rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    """The agent's path over the ground, (x, z) in metres, ``TRACK_POINTS`` points at ``HZ``.

    Point ``OBSERVED - 1`` is where the picture shows it; it turns steadily, and each point has 2 cm of noise.
    """
    times = (np.arange(TRACK_POINTS) - (OBSERVED - 1)) / HZ
    heading = np.arctan2(agent.velocity[1], agent.velocity[0]) + agent.turn * times
    speed = float(np.hypot(*agent.velocity))
    steps = speed * np.stack([np.cos(heading), np.sin(heading)], axis=1) / HZ
    path = np.cumsum(steps, axis=0)
    points = path - path[OBSERVED - 1] + (agent.x, agent.z) + rng.normal(0, 0.02, (TRACK_POINTS, 2))
    return tuple((round(float(x), 3), round(float(z), 3)) for x, z in points)
