import copy

import pytest
import torch

from trainer.contract.train_config import Optim, read_config
from trainer.engine.learner import Learner
from trainer.engine.parallel import Ranks
from trainer.engine.step import FP16_SKIPS, build_optimizer, learning_rate

ALONE = Ranks(0, 1, torch.device("cpu"))


def rates(optim: Optim) -> list[float]:
    return [learning_rate(optim, step, 104) for step in range(105)]


def test_the_learning_rate_warms_up_linearly_and_decays_by_a_cosine_to_zero():
    cosine = rates(Optim(lr=1.0, warmup_steps=4))
    assert cosine[:4] == [0.25, 0.5, 0.75, 1.0]
    assert cosine[54] == pytest.approx(0.5)
    assert cosine[104] == pytest.approx(0.0)
    assert cosine[4:] == sorted(cosine[4:], reverse=True)


def test_the_cosine_and_the_power_are_torchs_own():
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    for optim, scheduler in (
        (Optim(lr=1.0, warmup_steps=0), torch.optim.lr_scheduler.CosineAnnealingLR(copy.copy(optimizer), T_max=104)),
        (
            Optim(lr=1.0, warmup_steps=0, schedule="poly", poly_power=0.9),
            torch.optim.lr_scheduler.PolynomialLR(copy.copy(optimizer), total_iters=104, power=0.9),
        ),
    ):
        for rate in rates(optim)[:104]:
            assert rate == pytest.approx(scheduler.get_last_lr()[0], abs=1e-9)
            scheduler.optimizer.step()
            scheduler.step()
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["initial_lr"] = 1.0


def test_a_constant_rate_stays_after_its_warm_up():
    assert set(rates(Optim(lr=0.5, warmup_steps=1, schedule="constant"))) == {0.5}


def test_biases_and_norms_are_not_decayed():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    decayed, free = build_optimizer(model, Optim(weight_decay=0.1)).param_groups
    assert [p.ndim for p in decayed["params"]] == [4]
    assert decayed["weight_decay"] == 0.1
    assert {p.ndim for p in free["params"]} == {1}
    assert free["weight_decay"] == 0.0


@pytest.fixture
def learner_of(recipe):
    def build(*overrides: str) -> Learner:
        torch.manual_seed(0)
        config = read_config(recipe, overrides, environment={})
        learner = Learner(config, ALONE, total_steps=100, before_update=lambda: None)
        learner.start_epoch(0, [])
        return learner

    return build


@pytest.fixture(scope="module")
def batch(recipe, delivery, tmp_path_factory) -> dict[str, torch.Tensor]:
    from trainer.data.loader import TrainingLoader, TrainingSamples, open_data
    from trainer.data.order import Order
    from trainer.data.staging import data_directory
    from trainer.tasks import build_tasks

    config = read_config(recipe, ["data.workers=0"], environment={})
    data = open_data(data_directory(delivery, tmp_path_factory.mktemp("run"), print), ("train",))
    targets = {task.name: task.targets for task in build_tasks(config.tasks)}
    samples = TrainingSamples(data.readers["train"], config.data, targets, config.seed)
    return next(TrainingLoader(samples, Order(len(samples.reader), 8, 42), 0, 1, pin=False).epoch(0))


def weights(learner: Learner) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in learner.objective.parameters()]


def test_a_gradient_that_is_not_finite_moves_nothing_and_raises_the_flag(learner_of, batch):
    learner = learner_of()
    learner.step(batch, 0)
    before = weights(learner)
    state = {k: v.clone() for k, v in learner.tensors().items() if k.startswith("optimizer")}
    broken = {**batch, "image": batch["image"].float() * float("nan")}
    learner.step(broken, 1)
    assert not learner.step.finite
    assert all(torch.equal(now, then) for now, then in zip(weights(learner), before, strict=True))
    assert all(torch.equal(learner.tensors()[name], then) for name, then in state.items())


@pytest.mark.slow
def test_fp16_may_overflow_for_a_while_but_not_for_ever(learner_of, batch):
    learner = learner_of("training.precision=fp16")
    broken = {**batch, "image": batch["image"].float() * float("inf")}
    for step in range(FP16_SKIPS):
        learner.step(broken, step)
        assert learner.step.finite
    learner.step(broken, FP16_SKIPS)
    assert not learner.step.finite


def test_fp16_halves_its_scale_at_an_overflow_and_goes_on(learner_of, batch):
    learner = learner_of("training.precision=fp16")
    scale, before = learner.step.scaler.get_scale(), weights(learner)
    learner.step({**batch, "image": batch["image"].float() * float("inf")}, 0)
    assert learner.step.scaler.get_scale() == scale / 2
    assert all(torch.equal(now, then) for now, then in zip(weights(learner), before, strict=True))


def test_accumulated_parts_give_the_gradient_of_their_mean_loss(learner_of, batch):
    """Against the same parts done by hand; BatchNorm sees each part, so the whole batch is not the reference."""
    whole, parts = learner_of(), learner_of("optim.accumulate=2")
    halves = [{name: value[:4] for name, value in batch.items()}, {name: value[4:] for name, value in batch.items()}]
    (sum(whole.objective(half)[-1] for half in halves) / 2).backward()
    parts.step._gradients(batch)
    for expected, found in zip(whole.objective.parameters(), parts.objective.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)


@pytest.mark.parametrize("overrides", [["training.precision=bf16"], ["training.channels_last=true"]])
def test_other_arithmetic_gives_nearly_the_same_losses(learner_of, batch, overrides):
    plain, other = learner_of().step(batch, 0), learner_of(*overrides).step(batch, 0)
    torch.testing.assert_close(other, plain, rtol=3e-2, atol=3e-2)


def test_nothing_moves_before_the_copy_of_the_state_is_done(recipe, batch):
    moments = []
    learner = Learner(read_config(recipe, environment={}), ALONE, 100, lambda: moments.append(weights(learner)))
    learner.start_epoch(0, [])
    before = weights(learner)
    learner.step(batch, 0)
    assert all(torch.equal(now, then) for now, then in zip(moments[0], before, strict=True))
    assert not all(torch.equal(now, then) for now, then in zip(weights(learner), before, strict=True))
