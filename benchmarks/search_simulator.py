"""An event simulator of sweeps on public learning curves, and the curves: surrogates of YAHPO Gym.

Pfisterer et al., "YAHPO Gym", AutoML 2022. LCBench (Zimmer et al., 2021): 7 hyper-parameters of a network, 52 epochs,
each configuration with its own training time. Four workers have ten whole trainings of wall time each.
"""

import heapq
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

WORKERS = 4
FIRST_RUNG, ETA = 3, 3
TRAININGS_A_WORKER = 10


class Engine(Protocol):
    """``now`` is the simulated time in seconds; values are larger the better; parameters are coordinates in [0, 1]."""

    def suggest(self, trial_id: int, now: float) -> Mapping[str, float] | None: ...

    def report(self, trial_id: int, epoch: int, value: float, now: float) -> bool:
        """Whether the trial is to stop now."""
        ...

    def finish(self, trial_id: int, completed: bool, now: float) -> None: ...


class LCBench:
    """``val_balanced_accuracy`` of one OpenML task by epoch."""

    epochs = 52
    names = ("batch_size", "learning_rate", "momentum", "weight_decay", "num_layers", "max_units", "max_dropout")
    low = np.array([16, 1e-4, 0.1, 1e-5, 1, 64, 0.0])
    high = np.array([512, 0.1, 0.99, 0.1, 5, 1024, 1.0])
    logarithmic = np.array([True, True, False, False, False, True, False])
    whole = np.array([True, False, False, False, True, True, False])

    def __init__(self, folder: Path, task: str) -> None:
        self.task = task
        self.session = session_of(folder / "lcbench")
        self.code = json.loads((folder / "lcbench" / "encoding.json").read_text())["OpenML_task_id"][task]

    def curve(self, params: Mapping[str, float]) -> tuple[np.ndarray, float]:
        """Values after each epoch, and the seconds that one takes."""
        settings = np.tile(self._settings(np.array([[params[name] for name in self.names]])), (self.epochs, 1))
        outputs = self._outputs(settings, np.arange(1, self.epochs + 1))
        return outputs[:, 3].astype(float), max(float(outputs[-1, 0]), 1e-3) / self.epochs

    @cached_property
    def known(self) -> dict[str, float]:
        """The best of 100,000 configurations after a local search, the median, and the mean training time."""
        rng = np.random.default_rng(123)
        points = rng.random((100_000, len(self.names)))
        outputs = self._outputs(self._settings(points), np.full(len(points), self.epochs))
        values = outputs[:, 3].copy()
        top = np.argsort(-values)[:50]
        for _ in range(40):
            moved = np.clip(points[top] + rng.normal(0, 0.05, (len(top), len(self.names))), 0, 1)
            found = self._outputs(self._settings(moved), np.full(len(moved), self.epochs))[:, 3]
            better = found > values[top]
            points[top[better]], values[top[better]] = moved[better], found[better]
        seconds = float(np.mean(np.maximum(outputs[:, 0], 1e-3)))
        return {"best": float(values.max()), "median": float(np.median(outputs[:, 3])), "seconds": seconds}

    def _settings(self, points: np.ndarray) -> np.ndarray:
        straight = self.low + points * (self.high - self.low)
        bent = np.exp(np.log(np.maximum(self.low, 1e-9)) + points * np.log(self.high / np.maximum(self.low, 1e-9)))
        settings = np.where(self.logarithmic, bent, straight)
        return np.where(self.whole, np.round(settings), settings)

    def _outputs(self, settings: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """Rows of time, val_accuracy, val_cross_entropy, val_balanced_accuracy, …"""
        inputs = np.column_stack([epochs, settings]).astype(np.float32)
        return self.session.run(None, {"x_cont": inputs, "x_cat": np.full((len(inputs), 1), self.code, np.int32)})[0]


def session_of(folder: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), options)


@dataclass
class Outcome:
    """``best``: (share of the budget, value) each time that it rose."""

    best: list[tuple[float, float]] = field(default_factory=list)
    trials: int = 0
    completed: int = 0


def simulate(problem: LCBench, engine: Engine) -> Outcome:
    budget, outcome = TRAININGS_A_WORKER * problem.known["seconds"], Outcome()
    curves: dict[int, tuple[np.ndarray, float]] = {}
    events: list[tuple[float, int, int]] = []

    def start(now: float) -> None:
        trial_id = outcome.trials
        if (params := engine.suggest(trial_id, now)) is not None:
            curves[trial_id] = problem.curve(params)
            heapq.heappush(events, (now + curves[trial_id][1], trial_id, 1))
            outcome.trials += 1

    for _ in range(WORKERS):
        start(0.0)
    while events:
        now, trial_id, epoch = heapq.heappop(events)
        if now > budget:
            break
        values, seconds = curves[trial_id]
        value = float(values[epoch - 1])
        if not outcome.best or value > outcome.best[-1][1]:
            outcome.best.append((now / budget, value))
        stops = engine.report(trial_id, epoch, value, now)
        if stops or epoch == problem.epochs:
            outcome.completed += epoch == problem.epochs
            engine.finish(trial_id, epoch == problem.epochs, now)
            start(now)
        else:
            heapq.heappush(events, (now + seconds, trial_id, epoch + 1))
    return outcome
