"""The loss-spike detector: its formula on series made by hand, and a real training on poisoned labels."""

import pytest
import torch
from scipy import stats

from trainer.contract.train_config import LossSpikes as LossSpikesConfig
from trainer.engine.callbacks.checkpoints import SaveCheckpoints
from trainer.engine.callbacks.loss_spikes import LossSpikes, height
from trainer.engine.loop import Callback, GateFailed, Trainer

CALM = {"window": 20, "warmup": 10, "look_every": 7}


def test_the_height_is_the_robust_z_score_of_scipy():
    series = [3.1, 2.2, 2.9, 2.4, 1.8, 2.6, 3.3, 2.1]
    spread = stats.median_abs_deviation(series, scale="normal")
    assert height(5.0, series) == pytest.approx((5.0 - 2.5) / spread, rel=1e-4)


def test_small_noise_on_a_plateau_is_no_spike_and_nan_is_one():
    plateau = [1.0] * 20
    assert height(1.5, plateau) == pytest.approx(5.0)
    assert height(float("nan"), plateau) == float("inf")
    assert height(0.0, plateau) < 0


class Poison(Callback):
    """Turns the masks of some steps around: road is car and car is road."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def before_step(self, trainer: Trainer, batch: dict[str, torch.Tensor]) -> None:
        if trainer.progress.global_step + 1 in self.steps:
            (name,) = (name for name in batch if name.startswith("segmentation."))
            batch[name] = torch.where(batch[name] < 2, 1 - batch[name], batch[name])


@pytest.mark.slow
def test_poisoned_labels_are_named_by_task_step_and_value_and_the_run_goes_on(build):
    said: list[str] = []
    gate = LossSpikes(LossSpikesConfig(**CALM), said.append)
    result = build([Poison(20), gate], "training.epochs=4").fit()
    (spike,) = gate.spikes
    assert (spike["task"], spike["step"]) == ("segmentation", 20)
    assert spike["value"] > 3 * spike["median"]
    verdict = result.gates[0]
    assert (verdict.passed, verdict.severity) == (False, "warn")
    assert verdict.message.startswith("1 loss spike: segmentation at step 20: ")
    assert len(said) == 1
    assert result.global_step == 24


@pytest.mark.slow
def test_so_many_spikes_or_a_sustained_one_end_the_run(build):
    many = build([Poison(14, 17, 20), LossSpikes(LossSpikesConfig(abort_after=2, **CALM))], "training.epochs=4")
    with pytest.raises(GateFailed, match="abort_after is 2") as failed:
        many.fit()
    assert failed.value.verdict.figures["spikes"] == 2  # the end of the third epoch looks too
    exploded = LossSpikes(LossSpikesConfig(sustained=4, **CALM))
    trainer = build([Poison(*range(14, 25)), exploded], "training.epochs=4", run_dir="exploded")
    with pytest.raises(GateFailed, match="segmentation stayed up for 4 steps in a row"):
        trainer.fit()


@pytest.mark.slow
def test_what_is_found_does_not_depend_on_when_it_is_looked_or_on_a_resume(build):
    def run(run_dir: str, look_every: int, stop: int | None = None) -> LossSpikes:
        config = LossSpikesConfig(**{**CALM, "look_every": look_every})
        gate = LossSpikes(config)
        saving = [SaveCheckpoints(16)] if run_dir == "resumed" else []
        stopping = [Stop(stop)] if stop else []
        build([Poison(15, 20), gate, *saving, *stopping], "training.epochs=4", run_dir=run_dir).fit()
        return gate

    whole = run("whole", 7)
    assert whole.count >= 2
    assert run("often", 1).state_dict() == whole.state_dict()
    with pytest.raises(InterruptedError):
        run("resumed", 7, stop=18)
    assert run("resumed", 7).state_dict() == whole.state_dict()


class Stop(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, trainer: Trainer) -> None:
        if trainer.progress.global_step == self.step:
            trainer.checkpointer.wait()  # its thread would end with a process, and lives on in this one
            raise InterruptedError
