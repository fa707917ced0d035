"""Who is first, and what is said of each."""

import math
from typing import Any

from training_assets.sweeps.goals import Constraint, Goals, Objective
from training_assets.sweeps.report.leaderboard import leaderboard, metrics_at_best, standings
from training_assets.sweeps.report.summary import Baseline, TrialFacts, TrialRow
from training_assets.sweeps.trials import Decision, Suggestion, Trial

AP, ADE, MS = "detection/AP", "trajectory/ADE", "latency_p95_ms"
FAST = Constraint(MS, "<=", 20.0)


def trial(number: int, state: Any = "completed", **curve: dict[str, float]) -> Trial:
    epochs = {int(name[1:]): metrics for name, metrics in curve.items()}
    return Trial(number, Suggestion({"optim.lr": 0.1 * number}), curve=epochs, state=state)


def rows(*trials: Trial, goals: Goals, **more: Any) -> list[TrialRow]:
    ordered = standings(trials, more.pop("facts", {}), goals)
    return leaderboard(ordered, goals, more.pop("baseline", None))


def test_the_best_that_ran_to_its_end_and_kept_all_constraints_is_first() -> None:
    found = rows(
        trial(0, e1={AP: 0.5, MS: 10}),
        trial(1, e1={AP: 0.7, MS: 10}),
        trial(2, e1={AP: 0.9, MS: 21}),
        trial(3, "stopped", e1={AP: 0.8}),
        trial(4, "failed", e1={AP: 0.99}),
        trial(5, "completed", e1={AP: math.nan}),
        goals=Goals((Objective(AP),), (FAST,)),
    )
    assert [row.id for row in found] == [1, 0, 2, 3, 5, 4]
    assert [row.rank for row in found] == [1, 2, 3, 4, None, None]
    assert [row.feasible for row in found[:4]] == [True, True, False, None]
    assert [(row.constraints[0].value, row.constraints[0].kept) for row in found[2:4]] == [(21, False), (None, None)]


def test_an_error_is_better_the_smaller_it_is() -> None:
    found = rows(trial(0, e1={ADE: 2.0}), trial(1, e1={ADE: 1.0}), goals=Goals((Objective(ADE, "minimize"),)))
    assert [row.id for row in found] == [1, 0]


def test_a_trial_is_worth_what_its_best_epoch_is_and_later_figures_are_kept_beside_it() -> None:
    one = trial(0, e1={AP: 0.2}, e2={AP: 0.6, ADE: 3.0}, e3={AP: 0.4, ADE: 1.0, MS: 9.0})
    assert metrics_at_best(one, Goals((Objective(AP),))) == {AP: 0.6, ADE: 3.0, MS: 9.0}
    (row,) = rows(one, goals=Goals((Objective(AP),)))
    assert (row.best_epoch, row.epochs, row.objectives) == (2, 3, {AP: 0.6})
    assert row.curve == {AP: {1: 0.2, 2: 0.6, 3: 0.4}}


def test_the_figures_of_the_evaluation_count_before_those_of_the_training() -> None:
    facts = {0: TrialFacts(name="a-cv0", metrics={AP: 0.3})}
    found = rows(trial(0, e1={AP: 0.9}), trial(1, e1={AP: 0.5}), goals=Goals((Objective(AP),)), facts=facts)
    assert [(row.name, row.objectives[AP]) for row in found] == [("1", 0.5), ("a-cv0", 0.3)]


def test_the_front_has_only_trials_that_may_win() -> None:
    found = rows(
        trial(0, e1={AP: 0.5, ADE: 1.0, MS: 1}),
        trial(1, e1={AP: 0.7, ADE: 2.0, MS: 1}),
        trial(2, e1={AP: 0.6, ADE: 3.0, MS: 1}),
        trial(3, e1={AP: 0.9, ADE: 0.1, MS: 99}),
        trial(4, "stopped", e1={AP: 0.95, ADE: 0.1}),
        goals=Goals((Objective(AP), Objective(ADE, "minimize")), (FAST,)),
    )
    assert [row.id for row in found] == [1, 0, 2, 3, 4]
    assert [row.id for row in found if row.on_front] == [1, 0]


def test_differences_are_to_the_baseline_where_it_has_the_metric() -> None:
    goals = Goals((Objective(AP), Objective(ADE, "minimize")))
    before = Baseline(name="production", metrics={AP: 0.25})
    (row,) = rows(trial(0, e1={AP: 0.75, ADE: 1.0}), goals=goals, baseline=before)
    assert row.differences == {AP: 0.5}


def test_decisions_are_told_with_what_was_reached_and_infinite_thresholds_are_none() -> None:
    one = trial(0, "stopped", e3={ADE: 2.0})
    one.decisions = {1: Decision("continue"), 3: Decision("stop", "too far", "asha", 3, -math.inf, 7)}
    (row,) = rows(one, goals=Goals((Objective(ADE, "minimize"),)))
    (told,) = row.decisions
    assert (told.epoch, told.rule, told.reached, told.threshold, told.peers) == (3, "asha", -2.0, None, 7)
