"""The best few with other seeds: whether the order holds, within the sweep's budget."""

from typing import Any

import pytest

from tests.training_assets.finals.conftest import AP, IOU, RATES, SPACE
from trainer.contract.shard_index import read_data_spec
from trainer.contract.train_config import TrainConfig

ASKED = {**SPACE, "stability": {"best": 2, "seeds": 3}, "top_k": 1}


def lucky_under_42(config: TrainConfig) -> dict[str, float]:
    """The largest rate is best under the recipe's own seed alone."""
    lucky = config.optim.lr == 0.03 and config.training.epochs and config.seed != 42
    return {IOU: 0.5 + config.optim.lr - (0.05 if lucky else 0.0) + 0.001 * (config.seed % 7), AP: 0.6}


@pytest.mark.slow
def test_the_one_that_is_best_over_seeds_wins(swept: Any) -> None:
    swept.trainer.worth = lucky_under_42
    swept.started(ASKED).tried(RATES)
    before = swept.launched("train")
    assert swept.report().success
    assert swept.launched("train") == before + 6
    assert swept.record.winner == "t-cv2"
    assert "Trial 2 wins, not trial 1, over 3 seeds" in swept.shown["report"]
    assert "12 of 48 samples" in swept.shown["report"]


@pytest.mark.slow
def test_made_again_no_seed_is_trained_again(swept: Any) -> None:
    swept.started(ASKED).tried(RATES)
    assert swept.report().success
    before = swept.launched("train")
    assert swept.report().success
    assert swept.launched("train") == before


@pytest.mark.slow
def test_they_are_trained_on_the_part_that_was_asked_for(swept: Any) -> None:
    swept.started({**ASKED, "stability": {"best": 2, "seeds": 2, "samples": 10}}).tried(RATES)
    assert swept.report().success
    data = swept.trainer.commands("train")[-1].arguments[3]
    spec = read_data_spec(swept.place.root / "finals" / "small_training_set")
    assert data == str(swept.place.root / "finals" / "small_training_set")
    assert len(spec.selection["train"].samples) == 10
    assert spec.selection["train"].labels["boxes"] == 10


@pytest.mark.slow
def test_what_the_budget_does_not_allow_is_not_trained_and_said(swept: Any) -> None:
    swept.started({**ASKED, "budget": {"max_trials": 3, "wall_time": 0.1}}).tried(RATES)
    before = swept.launched("train")
    assert swept.report().success
    assert swept.launched("train") == before
    assert "Stability: not decided: the budget does not allow it" in swept.shown["report"]
    assert swept.record.winner == "t-cv1"


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2])
def test_with_one_that_may_win_there_is_nothing_to_compare(swept: Any, seeds: int) -> None:
    swept.started({**ASKED, "stability": {"seeds": seeds}}).tried(RATES[:1])
    assert swept.report().success
    assert "Stability: not asked: there are no two trials to compare" in swept.shown["report"]
