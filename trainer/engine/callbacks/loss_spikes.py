"""Names the steps whose loss stands out of those before: a bad batch, broken labels, a training that explodes."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch

from trainer.contract.train_config import LossSpikes as LossSpikesConfig
from trainer.engine.callbacks.gate import Gate
from trainer.engine.loop import Trainer

NORMAL = 1.4826
"""Standard deviations of a normal distribution in one median absolute deviation."""
LEAST_SPREAD = 0.1
"""Least spread as a share of the median: a plateau's small noise makes no spikes."""
TOLD = 20


def height(value: float, before: Sequence[float]) -> float:
    """How many robust standard deviations ``value`` stands above the median of ``before``.

    ``(x - median) / max(1.4826 · MAD, 0.1 · |median|)``: the modified z-score of Iglewicz and Hoaglin (How to Detect
    and Handle Outliers, 1993), upwards only, with a least spread. Infinite for what is not a number.
    """
    middle = median(before)
    spread = max(NORMAL * median(abs(one - middle) for one in before), LEAST_SPREAD * abs(middle), 1e-12)
    result = (value - middle) / spread
    return result if result == result else float("inf")


class LossSpikes(Gate):
    """Compares each task's loss, the mean over the ranks, with its last ``window`` steps that were no spikes.

    The losses wait in a buffer on the device; the host looks every ``look_every`` steps and before each checkpoint.
    What is found depends on the losses alone, not on when it was looked.
    """

    name = "loss_spikes"

    def __init__(self, config: LossSpikesConfig, say: Callable[[str], None] = print) -> None:
        self.config, self.say = config, say
        self.tasks: list[str] = []
        self.history: dict[str, list[float]] = {}
        self.in_a_row: dict[str, int] = {}
        self.longest: dict[str, int] = {}
        self.spikes: list[dict[str, Any]] = []
        self.count = 0
        self._buffer = torch.empty(0)
        self._waiting = 0

    def before_training(self, trainer: Trainer) -> None:
        self.tasks = [task.name for task in trainer.tasks]
        self._buffer = torch.zeros(self.config.look_every, len(self.tasks), device=trainer.ranks.device)
        for name in self.tasks:
            self.history.setdefault(name, [])
            self.in_a_row.setdefault(name, 0)
            self.longest.setdefault(name, 0)

    def after_step(self, trainer: Trainer) -> None:
        self._buffer[self._waiting] = torch.stack([trainer.last_losses[name] for name in self.tasks])
        self._waiting += 1
        if self._waiting == self.config.look_every:
            self._look(trainer)

    def before_save(self, trainer: Trainer) -> None:
        self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        if self._waiting:
            losses = trainer.ranks.mean(self._buffer[: self._waiting].clone()).tolist()
            first, self._waiting = trainer.progress.global_step - self._waiting + 1, 0
            before = self.count
            for step, values in enumerate(losses, start=first):
                for task, value in zip(self.tasks, values, strict=True):
                    self._judge(task, step, value)
            if self.count > before and trainer.ranks.leads:
                self.say(f"loss spikes: {', '.join(map(_told, self.spikes[before:])) or self._sum()}")
        self._conclude()

    def _judge(self, task: str, step: int, value: float) -> None:
        history = self.history[task]
        if len(history) >= self.config.warmup and height(value, history) > self.config.threshold:
            self.count += 1
            self.in_a_row[task] += 1
            self.longest[task] = max(self.longest[task], self.in_a_row[task])
            if len(self.spikes) < TOLD:
                self.spikes.append({"task": task, "step": step, "value": value, "median": median(history)})
        else:
            self.in_a_row[task] = 0
            self.history[task] = [*history, value][-self.config.window :]

    def _conclude(self) -> None:
        limit, sustained = self.config.abort_after, self.config.sustained
        exploded = [task for task, run in self.longest.items() if sustained is not None and run >= sustained]
        figures = {"spikes": float(self.count), **{f"longest/{task}": float(n) for task, n in self.longest.items()}}
        if exploded:
            message = f"the loss of {', '.join(exploded)} stayed up for {sustained} steps in a row: {self._sum()}"
            advice = ". Lower optim.lr, or look at the data of these steps (guards.loss_spikes.sustained)"
            self.conclude(False, message + advice, figures=figures)
        elif limit is not None and self.count >= limit:
            message = f"{self._sum()}; guards.loss_spikes.abort_after is {limit}: look at the data of these steps"
            self.conclude(False, message, figures=figures)
        else:
            self.conclude(not self.count, self._sum(), severity="warn", figures=figures)

    def _sum(self) -> str:
        if not self.count:
            return f"no loss stood {self.config.threshold:g} robust standard deviations above its median"
        more = f" and {self.count - len(self.spikes)} more" if self.count > len(self.spikes) else ""
        return f"{self.count} loss spike{'s' * (self.count > 1)}: {', '.join(map(_told, self.spikes))}{more}"

    def state_dict(self) -> dict[str, Any]:
        kept = ("history", "in_a_row", "longest", "spikes", "count")
        return super().state_dict() | {name: getattr(self, name) for name in kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for name in ("history", "in_a_row", "longest", "spikes", "count"):
            setattr(self, name, state[name])


def _told(spike: dict[str, Any]) -> str:
    return f"{spike['task']} at step {spike['step']}: {spike['value']:.4g} (median before {spike['median']:.4g})"
