"""What a watcher costs: losses are on the device, and reading them waits for it."""

import time
from types import SimpleNamespace

import pytest
import torch

from trainer.engine.callbacks.progress import LOOK_EVERY_S, Progress
from trainer.reporting import Console


class Drawn:
    """A bar that wants to be drawn at every step."""

    due = True

    def __init__(self, draws: bool) -> None:
        self.draws = draws
        self.notes: list[str] = []

    def __call__(self, done: int, total: int, note: str) -> None:
        self.notes.append(note)


class Training(SimpleNamespace):
    looked = 0

    @property
    def last_losses(self) -> dict[str, torch.Tensor]:
        self.looked += 1
        return {"total": torch.tensor(0.5)}


def stepped(bar: Drawn, seconds: list[float], monkeypatch: pytest.MonkeyPatch) -> Training:
    training = Training(
        ranks=SimpleNamespace(leads=True, world_size=1, device=torch.device("cpu")),
        progress=SimpleNamespace(global_step=0),
        total_steps=100,
        resumed_from=None,
        warm_start=None,
        order=SimpleNamespace(size=8),
        config=SimpleNamespace(name="tiny", data=SimpleNamespace(batch_size=4)),
    )
    progress = Progress(Console())
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    progress.before_training(training)
    progress._bar = bar
    for step, at in enumerate(seconds, start=1):
        monkeypatch.setattr(time, "monotonic", lambda at=at: at)
        training.progress.global_step = step
        progress.after_step(training)
    return training


def test_a_bar_that_is_drawn_at_every_step_looks_at_the_losses_now_and_then(monkeypatch):
    bar = Drawn(draws=True)
    training = stepped(bar, [0.2 * step for step in range(1, 61)], monkeypatch)
    assert len(bar.notes) == 60
    assert training.looked == 12 // LOOK_EVERY_S
    assert bar.notes[-1] == "20.0 samples/s  loss: total 0.5000"


def test_each_line_of_a_log_has_the_losses_of_its_moment(monkeypatch):
    bar = Drawn(draws=False)
    assert stepped(bar, [4.99, 9.99], monkeypatch).looked == 2
    assert all("loss: total" in note for note in bar.notes)
