"""Optuna's samplers behind the protocol: several objectives, constraints, categories."""

import pytest

from training_assets.sweeps.goals import Constraint, Goals, Objective
from training_assets.sweeps.search import search_of
from training_assets.sweeps.settings import EarlyStop, Pbt, Strategy
from training_assets.sweeps.space import Categorical, Constant, Parameter, Space, Uniform
from training_assets.sweeps.trials import Params, Trials

SPACE = Space(
    (
        Parameter("x", Uniform(0.0, 1.0)),
        Parameter("y", Uniform(0.0, 1.0)),
        Parameter("kind", Categorical(("a", "b"))),
        Parameter("fixed", Constant(7)),
    )
)
TWO = Goals((Objective("up"), Objective("down", "minimize")))
LIMITED = Goals((Objective("up"),), (Constraint.parse("x <= 0.3"),))


def metrics_of(params: Params) -> dict[str, float]:
    """The front is at y = 0 and kind b; x trades ``up`` against ``down``."""
    x, y = float(params["x"]), float(params["y"])  # type: ignore[arg-type]
    worse = y + (params["kind"] == "a")
    return {"up": x - worse, "down": x + worse, "x": x}


def hill_of(params: Params) -> dict[str, float]:
    """The top lies well within the limit."""
    x, y = float(params["x"]), float(params["y"])  # type: ignore[arg-type]
    return {"up": -((x - 0.15) ** 2) - (y - 0.5) ** 2 - (params["kind"] == "a"), "x": x}


def searched(goals: Goals, count: int, seed: int = 0) -> Trials:
    trials = Trials()
    strategy = Strategy(name="bayes", backend="optuna", seed=seed)
    search = search_of(SPACE, goals, strategy, EarlyStop(), Pbt(), 1, trials, lambda: 0.0)
    for trial_id in range(count):
        suggestion = search.suggest(trial_id)
        assert suggestion is not None
        search.report(trial_id, 1, metrics_of(suggestion.params))
        search.finish(trial_id, "completed")
    return trials


def off_the_front(trials: Trials, first: int) -> float:
    late = [trial.params for trial in trials if trial.id >= first]
    return sum(float(one["y"]) + (one["kind"] == "a") for one in late) / len(late)  # type: ignore[arg-type]


def test_several_objectives_are_led_to_the_front() -> None:
    trials = searched(TWO, 80)
    assert off_the_front(trials, 64) < 0.6  # 1.0 by chance
    assert all(trial.params["fixed"] == 7 for trial in trials)


@pytest.mark.parametrize("backend", ["own", "optuna"])
def test_constraints_are_kept_more_often_than_by_chance(backend: str) -> None:
    trials = Trials()
    strategy = Strategy.model_validate({"name": "bayes", "backend": backend})
    search = search_of(SPACE, LIMITED, strategy, EarlyStop(first_rung=1), Pbt(), 1, trials, lambda: 0.0)
    for trial_id in range(50):
        suggestion = search.suggest(trial_id)
        assert suggestion is not None
        search.report(trial_id, 1, hill_of(suggestion.params))
        search.finish(trial_id, "completed")
    feasible = [LIMITED.feasible(trial.metrics) for trial in trials if trial.id >= 20]
    assert sum(map(bool, feasible)) > 0.6 * len(feasible)  # 30 % by chance
