import pytest
import torch

from trainer.engine.ema import Ema


@pytest.fixture
def model() -> torch.nn.Module:
    model = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.constant_(model.weight, 1.0)
    return model


def test_the_average_follows_its_formula_with_the_warm_up_of_the_decay(model):
    ema, expected = Ema(model, decay=0.5), 1.0
    for step, value in enumerate((2.0, 4.0, 8.0, 0.0, 6.0, 1.0, 7.0, 3.0, 9.0, 5.0)):
        torch.nn.init.constant_(model.weight, value)
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert ema.shadow["weight"].tolist() == [pytest.approx([expected] * 2)]


def test_the_average_is_in_place_only_within_and_bits_come_back(model):
    ema = Ema(model, decay=0.9)
    with torch.no_grad():
        model.weight += torch.tensor([[0.1, 1 / 3]])
    ema.update(50)
    own, averaged = model.weight.clone(), ema.shadow["weight"].clone()
    with ema.in_place():
        assert torch.equal(model.weight, averaged)
    assert torch.equal(model.weight, own)
    assert torch.equal(ema.shadow["weight"], averaged)


def test_running_statistics_are_averaged_with_the_weights_that_they_belong_to():
    model = torch.nn.BatchNorm1d(2, momentum=1.0)
    ema = Ema(model, decay=0.5)
    for step in range(10, 13):
        model(torch.full((4, 2), float(step)))
        ema.update(step)
    expected = ((0.0 + 10) / 2 + 11) / 2 / 2 + 12 / 2
    assert ema.shadow["running_mean"].tolist() == [expected] * 2
    with ema.in_place():
        assert model.running_mean.tolist() == [expected] * 2
    assert model.running_mean.tolist() == [12.0] * 2
    assert "num_batches_tracked" not in ema.shadow
