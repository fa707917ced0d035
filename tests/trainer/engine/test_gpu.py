"""Training where there is a CUDA device: the command as on any host, one rank."""

from pathlib import Path

import pytest

from tests.trainer.engine import test_train


@pytest.mark.gpu
@pytest.mark.slow
def test_a_training_on_a_gpu_learns_and_says_so(
    recipe: Path, delivery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_train, "TORCHRUN", [test_train.TORCHRUN[0], "--nproc-per-node", "1"])
    overrides = ("training.epochs=4", "launch.accelerator=cuda", "launch.devices=1")
    result = test_train.run(recipe, delivery, tmp_path / "run", *overrides)
    losses = [epoch.losses["total"] for epoch in result.epochs]
    assert losses[-1] < losses[0] / 2
    assert result.best_metric is not None
    assert result.best_metric > 0.5
