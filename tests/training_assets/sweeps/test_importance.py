"""Importance: Shapley's definition is kept, fANOVA is Optuna's, and little data is not dressed up."""

import itertools
import math
from typing import Any

import numpy as np
import optuna
import pytest
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

from training_assets.sweeps.goals import Goals, Objective
from training_assets.sweeps.report.importance import FANOVA, SHAP, common_basis, importances, shares
from training_assets.sweeps.report.leaderboard import Standing, standings
from training_assets.sweeps.report.shapley import shapley_values
from training_assets.sweeps.space import Categorical, LogUniform, Parameter, Uniform
from training_assets.sweeps.trials import Suggestion, Trial

AP = "detection/AP"
GOALS = Goals((Objective(AP),))
PARAMETERS = (
    Parameter("lr", LogUniform(1e-4, 1e-1)),
    Parameter("decay", Uniform(0.0, 1.0)),
    Parameter("kind", Categorical(("a", "b", "c"))),
)


def by_definition(forest: Any, sample: np.ndarray, background: np.ndarray, groups: np.ndarray) -> list[float]:
    """Shapley (1953): a player's mean contribution over all coalitions, absent players taken from the background."""
    players = range(int(groups.max()) + 1)

    def worth(coalition: tuple[int, ...]) -> float:
        mixed = np.where(np.isin(groups, coalition), sample, background)
        return float(forest.predict(mixed).mean())

    values = []
    for player in players:
        others = [one for one in players if one != player]
        value = 0.0
        for size in range(len(others) + 1):
            weight = math.factorial(size) * math.factorial(len(others) - size) / math.factorial(len(others) + 1)
            for coalition in itertools.combinations(others, size):
                value += weight * (worth((*coalition, player)) - worth(coalition))
        values.append(value)
    return values


@pytest.mark.parametrize("kind", [RandomForestRegressor, ExtraTreesRegressor])
def test_shapley_values_are_those_of_the_definition_also_of_columns_that_belong_together(kind: Any) -> None:
    rng = np.random.default_rng(3)
    rows, groups = rng.random((40, 5)), np.array([0, 1, 2, 2, 3])
    forest = kind(6, max_depth=5, random_state=0).fit(rows, rows[:, 0] * rows[:, 1] + 2 * rows[:, 2] - rows[:, 3])
    found = shapley_values(forest, rows[:4], rows[:9], groups)
    assert found == pytest.approx(
        np.array([by_definition(forest, one, rows[:9], groups) for one in rows[:4]]), abs=1e-9
    )
    assert found.sum(axis=1) == pytest.approx(forest.predict(rows[:4]) - forest.predict(rows[:9]).mean())


def made(count: int, curves: Any = None, seed: int = 0) -> list[Standing]:
    """``lr`` decides all, ``decay`` nothing, ``kind`` a little."""
    rng, trials = np.random.default_rng(seed), []
    for number in range(count):
        params = {one.name: one.distribution.at(float(rng.random())) for one in PARAMETERS}
        value = math.log10(params["lr"]) + 0.3 * (params["kind"] == "a")
        curve = curves(number, value) if curves else {1: {AP: value}}
        state = "completed" if curves is None or 3 in curve else "stopped"
        trials.append(Trial(number, Suggestion(params), curve=curve, state=state))  # type: ignore[arg-type]
    return standings(trials, {}, GOALS)


@pytest.mark.slow
def test_fanova_is_what_optuna_says_of_the_same_trials() -> None:
    plain = (Parameter("lr", Uniform(1e-4, 1e-1)), *PARAMETERS[1:])
    ordered = made(30)
    ranges = {
        "lr": optuna.distributions.FloatDistribution(1e-4, 1e-1),
        "decay": optuna.distributions.FloatDistribution(0.0, 1.0),
        "kind": optuna.distributions.CategoricalDistribution(("a", "b", "c")),
    }
    study = optuna.create_study()
    for one in ordered:
        value = one.metrics[AP]
        study.add_trial(optuna.create_trial(params=dict(one.trial.params), distributions=ranges, value=value))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    asked = optuna.importance.get_param_importances(study, evaluator=evaluator)
    found = shares(importances(ordered, plain, GOALS.objectives), GOALS.first)
    assert found == pytest.approx(asked, abs=0.02)


@pytest.mark.slow
def test_fanova_shares_the_variance_over_the_declared_distributions() -> None:
    """Of 3·u + v over the unit square the variances are 9/12 and 1/12; u is the coordinate of a log range."""
    square = (Parameter("u", LogUniform(1e-6, 1.0)), Parameter("v", Uniform(0.0, 1.0)))
    units = np.random.default_rng(0).random((70, 2))
    trials = [
        Trial(number, Suggestion({"u": 10 ** (6 * u - 6), "v": v}), curve={1: {AP: 3 * u + v}}, state="completed")
        for number, (u, v) in enumerate(units.tolist())
    ]
    found = shares(importances(standings(trials, {}, GOALS), square, GOALS.objectives), GOALS.first)
    assert found == pytest.approx({"u": 0.9, "v": 0.1}, abs=0.04)


@pytest.mark.slow
def test_shap_finds_what_matters_and_which_way_it_pushes() -> None:
    ordered = made(40)
    _, found = importances(ordered, PARAMETERS, GOALS.objectives)
    assert found.evaluator == SHAP
    assert [one.parameter for one in found.effects] == ["lr", "kind", "decay"]
    assert sum(one.share for one in found.effects) == pytest.approx(1.0)
    assert found.fit is not None
    assert found.fit > 0.7
    rates = {one.trial.id: math.log10(one.trial.params["lr"]) for one in ordered}  # type: ignore[arg-type]
    pushes = found.effects[0].shap
    assert np.corrcoef([rates[one] for one in pushes], list(pushes.values()))[0, 1] > 0.95


def test_too_few_trials_are_said_and_not_shown() -> None:
    for found in importances(made(7), PARAMETERS, GOALS.objectives):
        assert found.effects == ()
        assert "7 trials can be compared: too few" in found.note


def test_of_very_many_trials_some_are_drawn_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training_assets.sweeps.report.importance.MOST", 10)
    for found in importances(made(20), PARAMETERS, GOALS.objectives):
        assert found.trials == 10
        assert found.basis.endswith("; drawn from 20")


def test_trials_that_tell_nothing_are_said_to_and_decide_nothing() -> None:
    noise = np.random.default_rng(5)
    found = importances(made(12, lambda number, value: {3: {AP: float(noise.random())}}), PARAMETERS, GOALS.objectives)
    for one in found:
        assert one.fit is not None
        assert one.fit < 0
        assert "does not predict those it has not seen" in one.note
    assert shares(found, GOALS.first) == {}


def test_nothing_varied_and_nothing_different_have_no_importance() -> None:
    same = made(9, lambda number, value: {3: {AP: 1.0}})
    assert {one.note for one in importances(same, PARAMETERS, GOALS.objectives)} == {"all trials have the same value"}
    fixed = [Parameter("lr", Uniform(0.0, 0.0))]
    for one in same:
        one.trial.suggestion = Suggestion({"lr": 0.0})
    assert {one.note for one in importances(same, fixed, GOALS.objectives)} == {"no parameter was varied"}


def test_trials_are_compared_at_the_last_epoch_that_half_of_them_reached() -> None:
    """Two of twenty ran to their end: survivors, who say little of what matters."""

    def curves(number: int, value: float) -> dict[int, dict[str, float]]:
        last = 3 if number < 2 else 2 if number < 12 else 1
        return {epoch: {AP: value * epoch} for epoch in range(1, last + 1)}

    basis = common_basis(made(20, curves), GOALS.first)
    assert basis.words == "after epoch 2, which 12 of 20 trials reached"
    assert len(basis.values) == 12


def test_where_most_ran_to_their_end_their_final_values_count() -> None:
    basis = common_basis(made(10), GOALS.first)
    assert basis.words == "of the trials that ran to their end"
    assert len(basis.values) == 10


def test_the_evaluators_are_named() -> None:
    assert [one.evaluator for one in importances(made(8), PARAMETERS, GOALS.objectives)] == [FANOVA, SHAP]
