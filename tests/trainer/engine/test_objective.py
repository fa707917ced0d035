import math

import pytest
import torch

from trainer.contract.train_config import Balancing, Stage
from trainer.engine.objective import balancer_of

WEIGHTS = {"detection": 2.0, "lanes": 0.5}


def total(balancing: Balancing, losses: list[float], epoch: int = 0, earlier: tuple = ()) -> float:
    balancer = balancer_of(balancing, WEIGHTS)
    balancer.start_epoch(epoch, earlier)
    return float(balancer(torch.tensor(losses)))


def test_fixed_weights_are_the_tasks_own():
    assert total(Balancing(), [3.0, 4.0]) == pytest.approx(2 * 3 + 0.5 * 4)


def test_a_curriculum_scales_the_weights_from_its_epochs_on():
    stages = (Stage(epoch=4, factors={"lanes": 3.0}), Stage(epoch=2, factors={"detection": 0.0}))
    totals = [total(Balancing(curriculum=stages), [3.0, 4.0], epoch) for epoch in (0, 2, 3, 4)]
    assert totals == pytest.approx([8.0, 2.0, 2.0, 6.0])


def test_learned_uncertainty_begins_with_the_fixed_weights_and_falls_where_a_loss_is_large():
    balancer = balancer_of(Balancing(method="uncertainty"), WEIGHTS)
    balancer.start_epoch(0, [])
    losses = torch.tensor([3.0, 0.5])
    assert float(balancer(losses)) == pytest.approx(6.25)
    optimizer = torch.optim.SGD(balancer.parameters(), lr=0.05)
    for _ in range(800):
        optimizer.zero_grad()
        balancer(losses).backward()
        optimizer.step()
    # The minimum of exp(-s) L + s is at s = log L (Kendall et al.: the variance becomes the loss).
    assert balancer.log_variance.tolist() == pytest.approx([math.log(3.0), math.log(0.5)], abs=1e-3)


def test_dynamic_weights_are_equal_for_two_epochs_then_follow_the_rates_of_descent():
    dwa = Balancing(method="dwa", temperature=2.0)
    earlier = [{"detection": 4.0, "lanes": 1.0, "total": 9.0}, {"detection": 2.0, "lanes": 1.0, "total": 5.0}]
    assert total(dwa, [1.0, 1.0], 1, tuple(earlier[:1])) == pytest.approx(2.5)
    slow, fast = math.exp(1.0 / 2), math.exp(0.5 / 2)
    expected = 2 * 2.0 * fast / (slow + fast) + 2 * 0.5 * slow / (slow + fast)
    assert total(dwa, [1.0, 1.0], 2, tuple(earlier)) == pytest.approx(expected)
