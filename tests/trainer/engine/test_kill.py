"""Four of the kills that ``benchmarks/kill.py`` makes by the dozen."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from kill import ALL, COPY, EVALUATION, LAUNCHER, RANK, SAVE, STEP, Plan, killed_run, undisturbed
from kill_runs import Material, Run

pytestmark = pytest.mark.slow

PLANS = [
    Plan("fork", RANK, SAVE, steps=5, delay_s=0.0),
    Plan("fork", LAUNCHER, EVALUATION, steps=7, delay_s=0.0),
    Plan("fork", ALL, STEP, steps=6, delay_s=0.0, host_lost=True),
    Plan("fork", RANK, COPY, steps=3, delay_s=0.0),
]


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> Material:
    return Material.make(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def whole(material, tmp_path_factory) -> dict:
    return undisturbed(material, tmp_path_factory.mktemp("undisturbed"), "fork")


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.how} in {plan.phase}".replace(" ", "_"))
def test_a_killed_training_goes_on_from_its_newest_checkpoint_to_the_same_state(plan, whole, material, tmp_path):
    outcome = killed_run(Run(tmp_path / "run", material), 0, [plan], random.Random(0))
    assert outcome["problems"] == []
    (kill,) = outcome["kills"]
    assert kill.problems == ()
    assert outcome["result"] == whole
    if plan.host_lost:
        assert kill.resumed_at > 0
