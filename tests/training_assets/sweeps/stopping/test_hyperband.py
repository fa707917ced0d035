"""Hyperband's brackets by the paper's table, its halving by ASHA, several objectives by NSGA-II of others."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training_assets.sweeps.goals import Constraint, Goals, Objective
from training_assets.sweeps.stopping.hyperband import Hyperband
from training_assets.sweeps.stopping.standing import Place, ahead_of, crowding_distances
from training_assets.sweeps.trials import Suggestion, Trials

MAP = Goals((Objective("mAP"),))
TWO = Goals((Objective("mAP"), Objective("ms", "minimize")))


def test_brackets_have_the_trials_of_the_papers_table():
    # Li et al., JMLR 2018, table 1: R = 81, eta = 3, brackets s = 4 … 0.
    rule = Hyperband(MAP, first_rung=1, eta=3, epochs=81)
    shares = Counter(rule.bracket_of(trial_id) for trial_id in range(81 + 34 + 15 + 8 + 5))
    assert [shares[bracket] for bracket in range(5)] == [81, 34, 15, 8, 5]
    assert rule.rungs == (1, 3, 9, 27)  # the fifth bracket trains in full


def test_brackets_keep_their_shares_from_the_start():
    rule = Hyperband(MAP, first_rung=3, eta=3, epochs=52)
    assert [rule.bracket_of(trial_id) for trial_id in range(8)] == [0, 1, 0, 2, 0, 1, 0, 0]
    assert rule.bracket_of(17) == rule.bracket_of(0)


def reported(trials: Trials, trial_id: int, epoch: int, **metrics: float) -> None:
    trials.asked(trial_id, Suggestion({}), 0.0)
    trials.reported(trial_id, epoch, metrics, 0.0)


def test_several_objectives_keep_the_front_and_say_so():
    rule, trials = Hyperband(TWO, 1, 2, 2), Trials()
    rule.bracket_of = lambda trial_id: 0
    for trial_id, (value, ms) in enumerate([(0.9, 30.0), (0.5, 10.0), (0.4, 12.0)]):
        reported(trials, trial_id, 1, mAP=value, ms=ms)
    reported(trials, 3, 1, mAP=0.8, ms=20.0)
    assert rule.decide(trials[3], 1, trials).verdict == "stop"  # third of the front by crowding: two of four go on
    assert rule.decide(trials[0], 1, trials).verdict == "continue"
    said = rule.decide(trials[2], 1, trials)
    assert said.reason == "after epoch 1 3 of 4 trials are ahead at rung 1 of bracket 0, where 2 go on"
    assert (said.verdict, said.rung, said.threshold, said.peers) == ("stop", 1, None, 4)


def test_at_a_rung_feasible_trials_go_first():
    goals = Goals(MAP.objectives, (Constraint.parse("ms <= 20"),))
    rule, trials = Hyperband(goals, 1, 2, 2), Trials()
    rule.bracket_of = lambda trial_id: 0
    for trial_id, (value, ms) in enumerate([(0.9, 30.0), (0.95, 25.0), (0.1, 10.0), (0.2, 20.0)]):
        reported(trials, trial_id, 1, mAP=value, ms=ms)
    said = [rule.decide(trials[trial_id], 1, trials) for trial_id in range(4)]
    assert [one.verdict for one in said] == ["stop", "stop", "continue", "continue"]
    assert said[0].threshold == 0.1


def test_a_bracket_is_compared_within_itself():
    rule, trials = Hyperband(MAP, first_rung=1, eta=3, epochs=9), Trials()
    brackets = [rule.bracket_of(trial_id) for trial_id in range(12)]
    for trial_id in range(12):
        reported(trials, trial_id, 1, mAP=0.9 if brackets[trial_id] else 0.1 + 0.01 * trial_id)
    last = max(trial_id for trial_id in range(12) if brackets[trial_id] == 0)
    said = rule.decide(trials[last], 1, trials)
    assert (said.verdict, said.peers) == ("continue", brackets.count(0))
    late = brackets.index(1)
    assert rule.decide(trials[late], 1, trials).reason == ""  # its first rung is epoch 3


POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2)), min_size=1, max_size=12)


@settings(deadline=None)
@given(points=POINTS)
def test_fronts_are_optunas(points: list[tuple[int, ...]]):
    from optuna.study._multi_objective import _fast_non_domination_rank

    ranks = _fast_non_domination_rank(-np.asarray(points, dtype=float))
    places = [Place(tuple(map(float, point))) for point in points]
    for index, own in enumerate(places):
        ahead = ahead_of(own, places[:index] + places[index + 1 :])
        before, within = (ranks < ranks[index]).sum(), (ranks == ranks[index]).sum()
        assert before <= ahead < before + within


@given(values=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8, unique=True))
def test_crowding_is_optunas(values: list[tuple[int, int]]):
    from optuna.samplers.nsgaii._elite_population_selection_strategy import _calc_crowding_distance
    from optuna.trial import create_trial

    # Which of several equal ends of an objective is the end is anybody's choice.
    distinct = [point for point in values if all(sum(one[a] == point[a] for one in values) == 1 for a in (0, 1))]
    population = [create_trial(values=list(map(float, point))) for point in distinct]
    for number, trial in enumerate(population):
        trial.number = number
    theirs = _calc_crowding_distance(list(population))
    if len(distinct) > 1:
        ours = crowding_distances({tuple(map(float, point)) for point in distinct})
        assert [ours[tuple(trial.values)] for trial in population] == pytest.approx(
            [theirs[trial.number] for trial in population]
        )
