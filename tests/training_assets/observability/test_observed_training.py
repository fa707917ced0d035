"""A real training of two ranks, looked at while it runs."""

import time
from pathlib import Path

import pytest

from trainer.contract.train_config import Launch
from training_assets.launchers import LaunchSpec, LocalLauncher
from training_assets.launchers.session import new_attempt
from training_assets.observability import Labels, Observer, observer
from training_assets.observability.figures import Figures
from training_assets.profiles.watching import Watch

pytestmark = pytest.mark.slow


class Kept:
    """Takes every look."""

    def __init__(self) -> None:
        self.figures: list[Figures] = []

    def due(self, now: float, labels: Labels) -> bool:
        return True

    def publish(self, now: float, labels: Labels, figures: Figures) -> None:
        self.figures.append(figures)


def test_its_step_pace_and_loss_are_seen_and_money_ends_it(
    delivery: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observer, "LOOK_SECONDS", 0.2)
    arguments = (
        "train",
        str(recipe),
        "--data",
        str(delivery),
        "--run-dir",
        str(tmp_path),
        "--set",
        "training.epochs=500",
    )
    spec = LaunchSpec(arguments, tmp_path, new_attempt(), launch=Launch(accelerator="cpu", devices=2))
    launcher, kept, said = LocalLauncher(), Kept(), []
    seen = Observer(spec.attempt_dir, Labels("tests", "tiny", "r"), 8, Watch(max_cost_usd=1), said.append, kept)
    handle, deadline = launcher.launch(spec), time.monotonic() + 120
    try:
        while not any(one.loss is not None and one.samples_per_second for one in kept.figures):
            assert launcher.poll(handle).state == "running", spec.log.read_text()[-2000:]
            assert time.monotonic() < deadline, "nothing was seen of it"
            assert seen.poll(time.time(), cost_usd=0.5) is None
            time.sleep(0.1)
        trip = seen.poll(time.time(), cost_usd=1.5)
    finally:
        launcher.stop(handle)
    assert trip is not None
    assert trip.limit == "max_cost_usd"
    steps = [one.step for one in kept.figures if one.step is not None]
    assert steps == sorted(steps)
    assert steps[-1] > 0
    assert not said
