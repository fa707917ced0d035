"""Trajectory forecasting: where each agent of a sample goes, from its past, its neighbours, and the image if any.

Each agent is seen in a frame of its own: the origin at its last observed point, the first axis along its last
movement. What is learned is the departure from walking on as before (constant velocity), in one or several modes
(Cui et al., Multimodal Trajectory Predictions, ICRA 2019).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from pydantic import Field, FiniteFloat, model_validator
from torch import nn
from torch.nn import functional

from trainer.contract.errors import ContractError, Problem
from trainer.contract.manifest import Row, Track
from trainer.contract.train_config import Task as TaskConfig
from trainer.data.sample import Labelled
from trainer.metrics.forecasting import ForecastStatistics, forecast_errors
from trainer.tasks.base import Options, Task, Tensors, options_of

STILL = 0.02
"""Metres over the observed past below which an agent has no direction."""


class TrajectoryOptions(Options):
    """``tasks.trajectory.options`` of a recipe."""

    observed: int = Field(default=8, ge=2, description="Points of the past that are looked at, the newest ones.")
    predicted: int = Field(default=12, ge=1, description="Points of the future.")
    modes: int = Field(default=1, ge=1, le=20, description="Futures that are told for each agent, with probabilities.")
    max_agents: int = Field(default=32, ge=1, description="Most agents of one sample.")
    near: float = Field(
        default=math.inf, ge=0, description="Metres beyond which others are not looked at; 0: nobody is."
    )
    hidden: int = Field(default=64, ge=8, description="Width of the network.")
    miss_distance: float = Field(default=2.0, gt=0, description="Metres beyond which a forecast is a miss.")
    scale: tuple[FiniteFloat, FiniteFloat] = Field(
        default=(1.0, 1.0), description="Range of the factor that an agent's path is drawn larger by, in training."
    )

    noise: float = Field(
        default=0.0,
        ge=0,
        description="Standard deviation in metres of what each past point is shifted by, in training.",
    )

    @model_validator(mode="after")
    def _rises(self) -> "TrajectoryOptions":
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale {list(self.scale)}: two positive numbers, the smaller first")
        return self


@dataclass(frozen=True)
class Agents:
    """The agents of one row that have a past and a future long enough.

    ``past`` A×O×2 and ``future`` A×P×2 in metres; ``origin`` A×2 and ``turn`` A×2×2 bring a point of an agent's own
    frame back: ``turn @ point + origin``; ``at`` A×3: where in the image (pixels), and 1 where that is known.
    """

    past: np.ndarray
    future: np.ndarray
    origin: np.ndarray
    turn: np.ndarray
    at: np.ndarray

    def inward(self, points: np.ndarray) -> np.ndarray:
        """A×N×2 points in metres, each agent's in its own frame."""
        own: np.ndarray = np.einsum("aji,anj->ani", self.turn, points - self.origin[:, None])
        return own

    def outward(self, points: np.ndarray) -> np.ndarray:
        """A×M×N×2 points of the agents' own frames in metres."""
        metres: np.ndarray = np.einsum("aij,amnj->amni", self.turn, points) + self.origin[:, None, None]
        return metres


class Trajectory(Task):
    """Forecasts at the tracks' own rate, in metres; scored by displacement errors."""

    name = "trajectory"
    headlines = ("ADE", "FDE")
    inputs = ("past", "pose", "here", "at")

    def __init__(self, weight: float, options: TrajectoryOptions) -> None:
        self.weight, self.options = weight, options

    def head(self, channels: int) -> nn.Module:
        return _Head(channels, self.options)

    def observed(self, sample: Labelled) -> Tensors:
        """Of up to A agents: ``past`` A×O×2 (own frames), ``pose`` A×4 (x, y, cosine and sine of the direction),
        ``here`` A: 1 where there is an agent, ``at`` A×3: place in the image from -1 to 1, and 1 where known.
        """  # fmt: skip
        return self._inputs(self.agents(sample.row), sample, 1.0, False)

    def example(self, samples: int) -> Tensors:
        agents, options = self.options.max_agents, self.options
        shapes = {"past": (agents, options.observed, 2), "pose": (agents, 4), "here": (agents,), "at": (agents, 3)}
        return {name: torch.zeros(samples, *shape) for name, shape in shapes.items()}

    def targets(self, sample: Labelled) -> Tensors:
        """The inputs, mirrored and scaled by chance, and the ``future`` A×P×2 in the agents' own frames."""
        assert sample.rng is not None
        scale = float(sample.rng.uniform(*self.options.scale))
        agents = self.agents(sample.row)
        # A mirrored image shows mirrored paths; without one, any path could as well be its mirror image.
        mirrored = sample.view.mirrored if sample.view.out_width else bool(sample.rng.random() < 0.5)
        future = agents.inward(agents.future) * scale * ((1, -1) if mirrored else (1, 1))
        inputs = self._inputs(agents, sample, scale, mirrored)
        if self.options.noise:
            inputs["past"] += self._padded(sample.rng.normal(0.0, self.options.noise, agents.past.shape))
        return {**inputs, "future": self._padded(future)}

    def loss(self, outputs: Tensors, targets: Tensors) -> torch.Tensor:
        """The mean displacement of the best mode, and the cross-entropy of naming it."""
        distances = (
            (outputs["paths"] - targets["future"][:, :, None]).square().sum(dim=-1).add(1e-6).sqrt().mean(dim=-1)
        )
        best = distances.detach().argmin(dim=2, keepdim=True)
        loss = distances.gather(2, best)[..., 0]
        if self.options.modes > 1:
            loss = loss + functional.cross_entropy(outputs["modes"].transpose(1, 2), best[..., 0], reduction="none")
        here = targets["here"]
        return (loss * here).sum() / here.sum().clamp(min=1)

    def record(self, outputs: Tensors, sample: Labelled) -> list[np.ndarray]:
        """The errors of each agent's modes."""
        agents = self.agents(sample.row)
        paths, probabilities = self.decode(outputs, agents)
        return [forecast_errors(*one) for one in zip(paths, agents.future, probabilities, strict=True)]

    def statistics(self, records: Sequence[list[np.ndarray]]) -> ForecastStatistics:
        top_k = sorted({1, self.options.modes})
        return ForecastStatistics(records, top_k, self.options.miss_distance)

    def decode(self, outputs: Tensors, agents: Agents) -> tuple[np.ndarray, np.ndarray]:
        """Paths A×M×P×2 in metres and their probabilities A×M."""
        count = len(agents.past)
        paths = outputs["paths"][:count].float().cpu().numpy().astype(np.float64)
        return agents.outward(paths), outputs["modes"][:count].float().softmax(dim=1).cpu().numpy()

    def agents(self, row: Row) -> Agents:
        """
        Raises:
            ContractError: more agents than ``options.max_agents``.
        """
        options = self.options
        tracks = [track for track in row.tracks or () if self._long_enough(track)]
        if len(tracks) > options.max_agents:
            problem = Problem(f"sample '{row.sample_id}'", f"{len(tracks)} agents", f"at most {options.max_agents}")
            raise ContractError("more agents than the recipe has room for", [problem],
                                "Raise tasks.trajectory.options.max_agents.")  # fmt: skip
        paths = np.array([self._path(track) for track in tracks]).reshape(-1, options.observed + options.predicted, 2)
        past, future = paths[:, : options.observed], paths[:, options.observed :]
        return Agents(
            past, future, past[:, -1], _turns(past), np.array([_at(track) for track in tracks]).reshape(-1, 3)
        )

    def draw(self, image: np.ndarray, outputs: Tensors, sample: Labelled) -> np.ndarray:
        """With a plan of the agents from above in the upper right corner: past grey, truth green, forecasts red."""
        agents = self.agents(sample.row)
        side = min(image.shape[:2]) // 2 if sample.view.out_width else min(image.shape[:2])
        drawn = image.copy()
        drawn[:side, -side:] = _plan(agents, *self.decode(outputs, agents), side)
        return drawn

    def _long_enough(self, track: Track) -> bool:
        future = len(track.points) - track.observed
        return track.observed >= self.options.observed and future >= self.options.predicted

    def _path(self, track: Track) -> np.ndarray:
        begin = track.observed - self.options.observed
        return np.array(track.points[begin : track.observed + self.options.predicted], np.float64)

    def _inputs(self, agents: Agents, sample: Labelled, scale: float, mirrored: bool) -> Tensors:
        flip = np.array((1.0, -1.0)) if mirrored else np.ones(2)
        middle = agents.origin.mean(axis=0) if len(agents.origin) else np.zeros(2)
        pose = np.concatenate([(agents.origin - middle) * scale * flip, agents.turn[:, :, 0] * flip], axis=1)
        return {
            "past": self._padded(agents.inward(agents.past) * scale * flip),
            "pose": self._padded(pose),
            "here": self._padded(np.ones(len(agents.past))),
            "at": self._padded(_in_view(agents.at, sample)),
        }

    def _padded(self, values: np.ndarray) -> torch.Tensor:
        padded = np.zeros((self.options.max_agents, *values.shape[1:]), np.float32)
        padded[: len(values)] = values
        return torch.from_numpy(padded)


class _Head(nn.Module):
    """The past; what the neighbours do, as each agent sees it, pooled; the image at the agent; then the paths."""

    def __init__(self, channels: int, options: TrajectoryOptions) -> None:
        super().__init__()
        self.options, hidden = options, options.hidden
        self.past = nn.Sequential(
            nn.Linear(4 * options.observed, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        # A layer over a pair is the sum of what its parts add: what an agent says is computed once for all others.
        self.place, self.says = nn.Linear(4, hidden), nn.Linear(hidden, hidden, bias=False)
        self.pair = nn.Linear(hidden, hidden)
        self.image = nn.Linear(channels + 1, hidden) if channels else None
        size = options.modes * (2 * options.predicted + 1)
        width = hidden * (3 if channels else 2)
        self.future = nn.Sequential(nn.Linear(width, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, hidden), nn.ReLU(),
                                    nn.Linear(hidden, size))  # fmt: skip

    def forward(
        self,
        pyramid: list[torch.Tensor] | None,
        past: torch.Tensor,
        pose: torch.Tensor,
        here: torch.Tensor,
        at: torch.Tensor,
    ) -> Tensors:
        """``paths`` N×A×M×P×2 in the agents' own frames, ``modes`` N×A×M logits.

        In training on the CPU a batch costs what its fullest sample needs, the paths of nobody are zeros. Elsewhere
        shapes stay the same, for a device that must not be waited for, a compiler or an exporter.
        """
        if self.training and here.device.type == "cpu" and not torch.compiler.is_compiling():
            most, padded = max(1, int(here.sum(dim=1).max())), here.shape[1]
            found = self._forecast(pyramid, past[:, :most], pose[:, :most], here[:, :most], at[:, :most])
            return {
                name: functional.pad(value, (0,) * 2 * (value.ndim - 2) + (0, padded - most))
                for name, value in found.items()
            }
        return self._forecast(pyramid, past, pose, here, at)

    def _forecast(
        self,
        pyramid: list[torch.Tensor] | None,
        past: torch.Tensor,
        pose: torch.Tensor,
        here: torch.Tensor,
        at: torch.Tensor,
    ) -> Tensors:
        steps = functional.pad(past[:, :, 1:] - past[:, :, :-1], (0, 0, 1, 0))
        own = self.past(torch.cat([past, steps], dim=3).flatten(2))
        found = [own, self._neighbours(own, pose, here)]
        if pyramid is not None and self.image is not None:
            seen = functional.grid_sample(pyramid[1], at[:, None, :, :2].to(pyramid[1].dtype), align_corners=False)
            found.append(
                torch.relu(self.image(torch.cat([seen[:, :, 0].transpose(1, 2) * at[..., 2:], at[..., 2:]], dim=2)))
            )
        values = self.future(torch.cat(found, dim=2))
        modes, predicted = self.options.modes, self.options.predicted
        velocity = past[:, :, -1] - past[:, :, -2]
        ahead = torch.arange(1, predicted + 1, device=past.device, dtype=past.dtype)
        onward = velocity[:, :, None, None] * ahead[:, None]
        departure = values[..., :-modes].unflatten(2, (modes, predicted, 2)).cumsum(dim=3)
        return {"paths": onward + departure, "modes": values[..., -modes:]}

    def _neighbours(self, own: torch.Tensor, pose: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
        """N×A×H: the largest of what each other agent says, from its place and direction in this agent's frame."""
        place, direction = pose[..., :2], pose[..., 2:]
        apart = place[:, None] - place[:, :, None]  # N×A×A×2: where j is from i
        between = [
            _into(direction[:, :, None], apart),
            _into(direction[:, :, None], direction[:, None].expand_as(apart)),
        ]
        said = self.pair(torch.relu(self.place(torch.cat(between, dim=3)) + self.says(own)[:, None]))
        same = torch.eye(own.shape[1], device=own.device, dtype=own.dtype)
        near = (apart.square().sum(dim=-1) < self.options.near**2).to(own.dtype)
        heard = (here[:, None, :] * (1 - same) * near)[..., None]
        # Without anybody else: zero, which is also the least that is passed on.
        return (torch.relu(said) * heard).amax(dim=2)


def _into(direction: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """``vector`` (…×2) in frames whose first axis is ``direction`` (…×2, cosine and sine)."""
    along = (vector * direction).sum(dim=-1)
    across = vector[..., 1] * direction[..., 0] - vector[..., 0] * direction[..., 1]
    return torch.stack([along, across], dim=-1)


def _turns(past: np.ndarray) -> np.ndarray:
    """A×2×2 rotations from the agents' own frames: the first axis along the last movement that is one."""
    turns = np.tile(np.eye(2), (len(past), 1, 1))
    for turn, path in zip(turns, past, strict=True):
        for earlier in path[-2::-1]:
            way = path[-1] - earlier
            length = float(np.hypot(*way))
            if length > STILL:
                cosine, sine = way / length
                turn[:] = [[cosine, -sine], [sine, cosine]]
                break
    return turns


def _at(track: Track) -> tuple[float, float, float]:
    return (0.0, 0.0, 0.0) if track.at is None else (*track.at, 1.0)


def _in_view(at: np.ndarray, sample: Labelled) -> np.ndarray:
    """A×3 places in the source image as places in the view from -1 to 1; those out of it are not known."""
    view = sample.view
    if not view.out_width:
        return np.zeros_like(at)
    places = sample.view.points(at[:, :2]) / (view.out_width, view.out_height) * 2 - 1
    seen = at[:, 2:] * (np.abs(places) <= 1).all(axis=1, keepdims=True)
    return np.concatenate([places * seen, seen], axis=1)


def _plan(agents: Agents, paths: np.ndarray, probabilities: np.ndarray, side: int) -> np.ndarray:
    """A square picture of ``side`` pixels, metres to scale."""
    picture = np.full((side, side, 3), 255, np.uint8)
    every = np.concatenate([part.reshape(-1, 2) for part in (agents.past, agents.future, paths)])
    if not len(every):
        return picture
    low, high = every.min(axis=0), every.max(axis=0)
    scale = 0.9 * side / max(float((high - low).max()), 1.0)

    def line(points: np.ndarray, colour: tuple[int, int, int]) -> None:
        moved = (points - (low + high) / 2) * (scale, -scale) + side / 2
        cv2.polylines(picture, [np.round(moved).astype(np.int32)], False, colour, 1, cv2.LINE_AA)

    for past, future, modes, chances in zip(agents.past, agents.future, paths, probabilities, strict=True):
        line(past, (120, 120, 120))
        line(np.concatenate([past[-1:], future]), (0, 160, 0))
        for path, chance in zip(modes, chances, strict=True):
            paler = int(200 * (1 - float(chance)))
            line(np.concatenate([past[-1:], path]), (230, paler, paler))
    return picture


def build(config: TaskConfig) -> Trajectory:
    return Trajectory(config.weight, options_of(TrajectoryOptions, config, "trajectory"))
