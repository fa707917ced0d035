import pytest
import torch

from trainer.contract.train_config import Optim
from trainer.engine.step import build_optimizer, learning_rate


def test_the_learning_rate_warms_up_linearly_and_decays_by_a_cosine_to_zero():
    optim = Optim(lr=1.0, warmup_steps=4)
    rates = [learning_rate(optim, step, 104) for step in range(105)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[54] == pytest.approx(0.5)
    assert rates[104] == pytest.approx(0.0)
    assert rates[4:] == sorted(rates[4:], reverse=True)


def test_biases_and_norms_are_not_decayed():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    decayed, free = build_optimizer(model, Optim(weight_decay=0.1)).param_groups
    assert [p.ndim for p in decayed["params"]] == [4]
    assert decayed["weight_decay"] == 0.1
    assert {p.ndim for p in free["params"]} == {1}
    assert free["weight_decay"] == 0.0
