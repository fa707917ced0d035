"""Interrupted at any step, a training goes on to the very state of the undisturbed one."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.contract.results import TrainResult
from trainer.contract.train_config import read_config
from trainer.data.loader import DataSet, open_data
from trainer.data.staging import data_directory
from trainer.engine.callbacks.checkpoints import SaveCheckpoints
from trainer.engine.callbacks.progress import Progress
from trainer.engine.callbacks.stopping import Stopping
from trainer.engine.loop import Callback, Trainer
from trainer.engine.parallel import Ranks
from trainer.models.state import load
from trainer.reporting import Console

ALONE = Ranks(0, 1, torch.device("cpu"))
SHORT = ("training.epochs=2", "data.workers=0", "data.batch_size=16", "optim.warmup_steps=2")
FEATURES = {
    "plain": (),
    "bf16, ema, uncertainty, poly": (
        "training.precision=bf16", "optim.ema_decay=0.9", "balancing.method=uncertainty", "optim.schedule=poly",
        "training.channels_last=true",
    ),
    "fp16, accumulation, dwa": ("training.precision=fp16", "optim.accumulate=2", "balancing.method=dwa"),
}  # fmt: skip


class Interrupt(Callback):
    """Stands for the power cut after ``step`` steps, with what was saved by then on disk."""

    name = "interrupt"

    def __init__(self, step: int | None) -> None:
        self.step, self.draws = step, []

    def after_step(self, trainer: Trainer) -> None:
        self.draws.append(float(torch.rand(())))
        if trainer.progress.global_step == self.step:
            trainer.checkpointer.wait()
            raise KeyboardInterrupt

    def state_dict(self) -> dict:
        return {"draws": self.draws}

    def load_state_dict(self, state: dict) -> None:
        self.draws = state["draws"]


class Whole(NamedTuple):
    run_dir: Path
    result: TrainResult
    draws: list[float]


@pytest.fixture(scope="module")
def data(delivery, tmp_path_factory) -> DataSet:
    return open_data(data_directory(delivery, tmp_path_factory.mktemp("data"), print), ("train", "val"))


def trained(recipe: Path, data: DataSet, run_dir: Path, overrides: tuple[str, ...], until: int | None = None,
            every: int = 1, **options) -> tuple[TrainResult, list[float]]:  # fmt: skip
    config = read_config(recipe, [*SHORT, *overrides], environment={})
    interrupt = Interrupt(until)
    stopping = Stopping(config.launch.max_run_seconds)
    callbacks = [interrupt, stopping, SaveCheckpoints(every)]
    result = Trainer(config, data, run_dir, "abcd1234", ALONE, callbacks, **options).fit()
    return result, interrupt.draws


@pytest.fixture(scope="module")
def undisturbed(recipe, data, tmp_path_factory) -> Callable[[str], Whole]:
    """The training of each of ``FEATURES``, run once."""

    @functools.cache
    def undisturbed(features: str) -> Whole:
        run_dir = tmp_path_factory.mktemp("whole")
        return Whole(run_dir, *trained(recipe, data, run_dir, FEATURES[features]))

    return undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("features", FEATURES)
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 6), min_size=1, max_size=2, unique=True).map(sorted), every=st.integers(1, 3))
def test_whatever_the_step_and_the_features_the_state_is_the_same(
    undisturbed, recipe, data, tmp_path_factory, features, cuts, every
):
    overrides, (_, whole, draws) = FEATURES[features], undisturbed(features)
    run_dir = tmp_path_factory.mktemp("cut")
    for cut in cuts:
        with pytest.raises(KeyboardInterrupt):
            trained(recipe, data, run_dir, overrides, until=cut, every=every)
    resumed, resumed_draws = trained(recipe, data, run_dir, overrides, every=every)
    assert resumed.state_sha256 == whole.state_sha256
    assert [epoch.losses for epoch in resumed.epochs] == [epoch.losses for epoch in whole.epochs]
    assert (resumed.best_metric, resumed.best_step) == (whole.best_metric, whole.best_step)
    assert resumed_draws == draws  # the generator and a callback's own state
    assert all(torch.isfinite(weight).all() for weight in load(run_dir / "best.pt")["model"].values())


@pytest.mark.slow
def test_features_make_states_of_their_own(undisturbed):
    assert len({undisturbed(features).result.state_sha256 for features in FEATURES}) == len(FEATURES)


@pytest.mark.slow
def test_the_wall_ends_a_run_between_two_steps_and_a_later_wall_lets_it_go_on(undisturbed, recipe, data, tmp_path):
    ended, _ = trained(recipe, data, tmp_path / "run", ("launch.max_run_seconds=0.001",))
    assert (ended.stop_reason, ended.global_step) == ("max_run_seconds", 1)
    assert load(tmp_path / "run" / "best.pt")["global_step"] == 1
    again, _ = trained(recipe, data, tmp_path / "run", ("launch.max_run_seconds=0.001",))
    assert (again.stop_reason, again.global_step) == ("max_run_seconds", 1)
    on, _ = trained(recipe, data, tmp_path / "run", ())
    assert (on.stop_reason, on.resumed_from_step) == ("max_epochs", 1)
    assert on.state_sha256 == undisturbed("plain").result.state_sha256


@pytest.mark.slow
def test_a_warm_start_takes_over_what_fits_and_says_what_does_not(undisturbed, recipe, data, tmp_path):
    best = undisturbed("plain").run_dir / "best.pt"
    other = ("tasks.detection.classes=[car, truck]", "optim.lr=1e-12")
    warm, _ = trained(recipe, data, tmp_path / "warm", other, warm_start=best)
    assert warm.warm_start.matched > 50
    assert warm.warm_start.other_shape
    assert all("detection" in name for name in warm.warm_start.other_shape)
    assert (warm.warm_start.missing, warm.warm_start.unexpected) == ((), ())
    before, after = (load(path)["model"] for path in (best, tmp_path / "warm" / "best.pt"))
    name = next(name for name in before if name.endswith("conv.weight") or ("stem" in name and before[name].ndim == 4))
    torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)


def test_what_a_warm_start_left_out_is_told(undisturbed, recipe, data, tmp_path):
    config = read_config(recipe, [*SHORT, "training.epochs=1", "tasks.detection.classes=[car, truck]"], environment={})
    said: list[str] = []

    class Heard(Console):
        info = line = staticmethod(said.append)

    best = undisturbed("plain").run_dir / "best.pt"
    trainer = Trainer(config, data, tmp_path / "warm", "abcd1234", ALONE, [Progress(Heard())], best)
    trainer.fit()
    (line,) = [line for line in said if line.startswith("warm start")]
    assert all(name in line for name in trainer.warm_start.other_shape)
    assert f"{trainer.warm_start.matched} tensors" in line


@pytest.mark.slow
def test_the_averaged_weights_are_what_is_released(undisturbed, recipe, data, tmp_path):
    trained(recipe, data, tmp_path / "ema", ("optim.ema_decay=0.999",))
    plain, averaged = (load(run / "best.pt")["model"] for run in (undisturbed("plain").run_dir, tmp_path / "ema"))
    assert not all(torch.equal(plain[name], averaged[name]) for name in plain)
