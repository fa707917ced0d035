import torch

from trainer.contract.train_config import read_config
from trainer.engine.learner import Learner
from trainer.engine.parallel import Ranks


def test_weights_that_are_still_being_copied_for_a_checkpoint_do_not_move_for_an_evaluation(recipe):
    config = read_config(recipe, ["optim.ema_decay=0.5"])
    waited: list[str] = []
    learner = Learner(config, Ranks(0, 1, torch.device("cpu")), 1, lambda: waited.append("for the copy"))
    weight = next(learner.model.parameters())
    average = next(iter(learner.step.ema.shadow.values()))
    average.fill_(7.0)
    with learner.for_evaluation():
        assert waited == ["for the copy"]
        assert (weight == 7.0).all()
    assert (weight != 7.0).all()
