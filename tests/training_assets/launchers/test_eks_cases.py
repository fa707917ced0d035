"""An attempt on EKS ends as it should, whatever goes wrong, and leaves nothing. Real client, emulated cluster."""

from pathlib import Path

import pytest

from tests.training_assets.launchers.eks_cases import CASES, open_world

TRAINING = "training"
QUICK = {"crash_of_one_node", "kill_of_one_node", "cancel_during_training", "lost_answers", "repeated_requests"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in CASES if name != TRAINING],
)
def test_case(case: str, tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        CASES[case](world)


@pytest.mark.slow
def test_two_nodes_end_with_the_state_of_two_local_ranks(tmp_path: Path, recipe: Path, delivery: Path) -> None:
    with open_world(tmp_path, recipe, delivery) as world:
        CASES[TRAINING](world)
