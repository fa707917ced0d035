"""The gates that rehearse: what they find, and that they leave no trace."""

from collections.abc import Callable

import pytest
import torch

from trainer.contract.results import Verdict
from trainer.contract.train_config import Determinism as DeterminismConfig
from trainer.contract.train_config import DryRun as DryRunConfig
from trainer.contract.train_config import TrainConfig
from trainer.engine.callbacks.checkpoints import SaveCheckpoints
from trainer.engine.callbacks.determinism import Determinism, relative_differences
from trainer.engine.callbacks.dry_run import DryRun
from trainer.engine.callbacks.finite import FiniteGuard, NotFinite
from trainer.engine.callbacks.gates import GateInputs, gates
from trainer.engine.failure import Subject, failure_of
from trainer.engine.loop import Callback, GateFailed, Trainer
from trainer.reporting import Console

RNG = torch.get_rng_state


def all_gates(config: TrainConfig) -> list[Callback]:
    return list(gates(config, GateInputs(), Console()))


def verdicts(trainer: Trainer) -> dict[str, Verdict]:
    return {found.gate: found for callback in trainer.callbacks if (found := callback.verdict())}


class Remember(Callback):
    """The whole state and the random numbers at each point where it is asked."""

    def __init__(self) -> None:
        self.states: list[dict[str, torch.Tensor]] = []

    def before_step(self, trainer: Trainer, batch: dict[str, torch.Tensor]) -> None:
        state = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        self.states.append({**state, "random numbers": RNG()})


@pytest.mark.parametrize("gate", [DryRun(DryRunConfig()), Determinism(DeterminismConfig())], ids=lambda g: g.name)
def test_a_rehearsal_leaves_parameters_buffers_gradients_and_random_numbers_bit_for_bit(build, gate):
    before, after = Remember(), Remember()
    trainer = build([before, gate, after], "training.epochs=1")
    batch = next(iter(trainer.loader.epoch(0)))
    for callback in trainer.callbacks:
        callback.before_step(trainer, batch)
    assert gate.found.passed
    (one,), (other,) = before.states, after.states
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_a_run_with_all_gates_ends_in_the_state_of_one_without(build):
    bare = build([], "training.epochs=1", run_dir="bare").fit()
    guarded = build([], "training.epochs=1", run_dir="guarded")
    guarded.callbacks = all_gates(guarded.config)
    result = guarded.fit()
    assert result.state_sha256 == bare.state_sha256
    names = ["dry_run", "determinism", "finite", "loss_spikes", "drift", "early_stopping"]
    assert [(gate.gate, gate.passed) for gate in result.gates] == [(name, True) for name in names]


@pytest.mark.slow
def test_verdicts_survive_a_resume_also_of_a_run_that_is_over(build):
    def start() -> Trainer:
        config = build([], "training.epochs=1").config
        return build([*all_gates(config), SaveCheckpoints(100)], "training.epochs=1")

    first = start().fit()
    again = start()
    result = again.fit()
    assert result.resumed_from_step == 6
    assert result.gates == first.gates


def broken(trainer: Trainer, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Have the segmentation's loss changed by ``change``."""
    task = next(task for task in trainer.tasks if task.name == "segmentation")
    right = task.loss
    task.loss = lambda outputs, targets: change(right(outputs, targets))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda loss: loss * float("nan"), "the loss of segmentation is nan"),
        (lambda loss: loss * 1e6, "(guards.dry_run.max_loss)"),
    ],
)
def test_a_dry_run_names_the_task_whose_loss_is_not_usable(build, change, said):
    trainer = build([DryRun(DryRunConfig())])
    broken(trainer, change)
    with pytest.raises(GateFailed, match="segmentation") as failed:
        trainer.fit()
    assert said in str(failed.value)
    assert "detection" not in str(failed.value)
    assert trainer.progress.global_step == 0


def test_a_dry_run_names_the_parameters_that_no_loss_reaches(build):
    trainer = build([DryRun(DryRunConfig())])
    broken(trainer, torch.Tensor.detach)
    heads = [name for name, _ in trainer.model.named_parameters() if name.startswith("heads.segmentation.")]
    with pytest.raises(GateFailed) as failed:
        trainer.fit()
    assert f"rank 0: {len(heads)} of" in str(failed.value)
    assert heads[0] in str(failed.value)
    assert "heads.detection" not in str(failed.value)


def test_too_little_memory_is_told_with_what_to_lower(build, tmp_path):
    def run_out(loss: torch.Tensor) -> torch.Tensor:
        return loss + torch.empty(1 << 60).sum()  # more than any allocator has

    trainer = build([DryRun(DryRunConfig())])
    broken(trainer, run_out)
    with pytest.raises(GateFailed) as failed:
        trainer.fit()
    assert failure_of(failed.value, Subject(tmp_path, 0)).kind == "out_of_memory"
    assert "the machine's memory ran out" in str(failed.value)
    for advice in ("data.batch_size (now 8)", "data.image_size (now [64, 64])", "optim.accumulate (now 1)", "bf16"):
        assert advice in str(failed.value)


def test_another_error_of_the_model_is_not_taken_for_too_little_memory(build):
    def fall_over(loss: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    trainer = build([DryRun(DryRunConfig())])
    broken(trainer, fall_over)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        trainer.fit()


class Noise:
    """An operation that is not reproducible: other numbers each time, whatever the seed."""

    def __init__(self, size: float) -> None:
        self.size, self.calls = size, 0

    def __call__(self, loss: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return loss * (1 + self.size * (self.calls % 3))


def test_an_operation_that_is_not_deterministic_is_found_and_its_task_named(build):
    trainer = build([Determinism(DeterminismConfig())])
    broken(trainer, Noise(0.01))
    with pytest.raises(GateFailed, match="segmentation by") as failed:
        trainer.fit()
    assert failed.value.verdict.figures["difference/segmentation"] > 0.005
    assert trainer.progress.global_step == 0


def test_noise_within_the_tolerance_band_passes_and_a_warning_lets_the_run_go_on(build):
    small = build([Determinism(DeterminismConfig())], "training.epochs=1", run_dir="small")
    broken(small, Noise(1e-5))
    assert small.fit().gates[0].passed
    warned = build([Determinism(DeterminismConfig(on_failure="warn"))], "training.epochs=1", run_dir="warned")
    broken(warned, Noise(0.01))
    verdict = warned.fit().gates[0]
    assert (verdict.passed, verdict.severity) == (False, "warn")


def test_differences_are_relative_and_nan_twice_is_none():
    nan, inf = float("nan"), float("inf")
    assert relative_differences({"a": [2.0, nan, inf]}, {"a": [1.0, nan, inf]}) == {"a": 0.5}
    assert relative_differences({"a": [2.0]}, {"a": [nan]}) == {"a": inf}


def test_determinism_is_asked_at_the_start_only(build):
    gate = Determinism(DeterminismConfig())
    trainer = build([gate])
    trainer.progress.global_step = 4
    gate.before_step(trainer, next(iter(trainer.loader.epoch(0))))
    assert gate.found is None


def test_a_loss_that_is_not_finite_ends_the_run_with_the_gates_verdict(build):
    trainer = build([FiniteGuard(2)])
    broken(trainer, lambda loss: loss * float("inf"))
    with pytest.raises(NotFinite) as failed:
        trainer.fit()
    assert failed.value.verdict.gate == "finite"
    assert trainer.progress.global_step == 2
