"""Ray Tune behind our protocol, where it is installed (the extra ``ray``): the same decisions as Ray's own loop."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from trainer.contract.errors import ContractError
from training_assets.sweeps.goals import Goals, Objective
from training_assets.sweeps.search.composed import Composed
from training_assets.sweeps.search.ray import NEEDED, ray_search
from training_assets.sweeps.settings import EarlyStop, Strategy
from training_assets.sweeps.space import Categorical, LogUniform, Parameter, Space
from training_assets.sweeps.trials import Decision, Suggestion, Trials

EPOCHS = 27
GOALS = Goals((Objective("loss", "minimize"),))
SPACE = Space((Parameter("lr", LogUniform(1e-4, 1.0)), Parameter("optimizer", Categorical(("sgd", "adam")))))


def search_over(trials: Trials, name: str = "asha", seed: int = 0) -> Composed:
    return ray_search(SPACE, GOALS, Strategy(name=name, backend="ray", seed=seed), EarlyStop(), EPOCHS, trials, float)


def loss(lr: float, epoch: int) -> float:
    return abs(math.log10(lr) + 2) + math.exp(-epoch / 5)


def trained(search: Composed, trial_id: int) -> list[Decision]:
    suggestion = search.suggest(trial_id)
    said = []
    for epoch in range(1, EPOCHS + 1):
        said.append(search.report(trial_id, epoch, {"loss": loss(float(suggestion.params["lr"]), epoch)}))
        if said[-1].verdict == "stop":
            break
    search.finish(trial_id, "stopped" if said[-1].verdict == "stop" else "completed")
    return said


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("training_assets.sweeps.search.ray.find_spec", lambda name: None)
    with pytest.raises(ContractError, match=r"Ray Tune is not installed[\s\S]*training-assets\[ray\]"):
        search_over(Trials())


@pytest.mark.parametrize("name", ["grid", "pbt"])
def test_a_strategy_that_ray_does_not_do_is_refused(name: str):
    with pytest.raises(ContractError, match="does not do this strategy"):
        search_over(Trials(), name)


@pytest.fixture(scope="module")
def ray():
    for name in NEEDED:
        pytest.importorskip(name, reason="the extra 'ray' is not installed")


def test_verdicts_are_those_of_rays_scheduler(ray):
    from ray.tune.schedulers import ASHAScheduler

    theirs = ASHAScheduler(time_attr="e", metric="loss", mode="min", max_t=EPOCHS, grace_period=3, reduction_factor=3)
    search, verdicts = search_over(Trials()), []
    for trial_id in range(30):
        said = trained(search, trial_id)
        stub = SimpleNamespace(trial_id=str(trial_id))
        theirs.on_trial_add(None, stub)
        lr = float(search.trials[trial_id].params["lr"])
        for epoch, decision in enumerate(said, 1):
            verdict = theirs.on_trial_result(None, stub, {"e": epoch, "loss": loss(lr, epoch)})
            assert (decision.verdict == "stop") == (verdict == "STOP" and epoch < EPOCHS)
            verdicts.append(decision.verdict)
    assert verdicts.count("stop") > 10


def test_a_decision_names_rung_cutoff_and_peers(ray):
    search = search_over(Trials())
    for trial_id in range(30):
        trained(search, trial_id)
    stops = [one for trial in search.trials for one in trial.decisions.values() if one.verdict == "stop"]
    assert {one.rung for one in stops} <= {3, 9}
    assert all(one.peers and one.threshold is not None and f"of {one.peers} trials" in one.reason for one in stops)


@pytest.mark.parametrize("name", ["asha", "hyperband", "bayes+asha"])
def test_made_again_for_every_trial_it_goes_on_as_before(ray, name: str):
    kept, trials = search_over(Trials(), name), Trials()
    for trial_id in range(12):
        np.random.seed(trial_id)  # what others draw from numpy's global stream changes nothing
        assert trained(search_over(trials, name), trial_id) == trained(kept, trial_id)
    assert [one.params for one in trials] == [one.params for one in kept.trials]


def test_bohb_comes_nearer_than_random_draws(ray):
    search = search_over(Trials(), "bayes", seed=1)
    for trial_id in range(30):
        trained(search, trial_id)
    distances = [abs(math.log10(float(one.params["lr"])) + 2) for one in search.trials]
    assert np.median(distances[15:]) < 0.5 * np.median(distances[:8])


def test_values_that_the_space_does_not_know_are_left_out(ray):
    trials = Trials()
    trials.asked(0, Suggestion({"lr": 0.1, "optimizer": "rprop"}), 0.0)
    trials.reported(0, EPOCHS, {"loss": 0.1}, 0.0)
    assert search_over(trials, "bayes").suggest(1).params["optimizer"] in ("sgd", "adam")


def test_nothing_is_told_to_rays_makers(ray, monkeypatch):
    import os

    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    trained(search_over(Trials()), 0)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
