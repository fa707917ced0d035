"""ASHA decides as Optuna's pruner does, by the best of each trial, and says why."""

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training_assets.sweeps.goals import Goals, Objective
from training_assets.sweeps.stopping.asha import Asha
from training_assets.sweeps.stopping.rungs import rungs_of
from training_assets.sweeps.trials import Decision, Suggestion, Trials

optuna.logging.set_verbosity(optuna.logging.ERROR)
MAP = Goals((Objective("mAP"),))
LOSS = Goals((Objective("loss", "minimize"),))


def decisions(rule: Asha, metric: str, curves: list[list[float]], every: int = 1) -> list[list[Decision]]:
    trials, said = Trials(), []
    for trial_id, curve in enumerate(curves):
        trials.asked(trial_id, Suggestion({}), 0.0)
        said.append([])
        for epoch in range(every, len(curve) + 1, every):
            trials.reported(trial_id, epoch, {metric: curve[epoch - 1]}, 0.0)
            said[-1].append(rule.decide(trials[trial_id], epoch, trials))
            if said[-1][-1].verdict == "stop":
                break
    return said


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=9, max_size=9).map(sorted), min_size=1, max_size=12))
def test_trials_stop_where_optunas_pruner_stops_them(curves: list[list[float]]) -> None:
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    for curve, said in zip(curves, decisions(Asha(MAP, 1, 3, 9), "mAP", curves), strict=True):
        trial = study.ask()
        for epoch, (value, decision) in enumerate(zip(curve, said, strict=False), 1):
            trial.report(value, epoch)
            assert epoch == 9 or (decision.verdict == "stop") == trial.should_prune()


def test_rungs_rise_by_eta_below_a_whole_training() -> None:
    assert rungs_of(3, 3, 52) == (3, 9, 27)
    assert rungs_of(3, 3, 27) == (3, 9)
    assert rungs_of(5, 2, 4) == ()


def test_each_decision_says_what_it_compared() -> None:
    curves = [[value] * 9 for value in (0.2, 0.9, 0.5, 0.52, 0.6, 0.1)]
    last = decisions(Asha(MAP, 3, 3, 27), "mAP", [*curves, [0.3, 0.41, 0.4, 0.4]])[-1]
    assert [one.reason for one in last[:2]] == ["", ""]
    assert last[2].reason == "0.41 after epoch 3 misses 0.6, the best 2 of 7 trials at rung 3"
    assert (last[2].verdict, last[2].rung, last[2].threshold, last[2].peers) == ("stop", 3, 0.6, 7)
    assert len(last) == 3


def test_a_minimised_metric_is_told_as_it_is() -> None:
    curves = [[loss] * 3 for loss in (1.0, 2.0, 3.0)]
    said = decisions(Asha(LOSS, 3, 3, 27), "loss", curves)
    assert said[1][-1].reason == "2 after epoch 3 misses 1, the best 1 of 2 trials at rung 3"
    assert said[0][-1].verdict == "continue"


@pytest.mark.parametrize(("every", "decided_after"), [(1, [3, 9]), (2, [4, 10]), (5, [5, 10]), (10, [10])])
def test_a_rung_is_decided_once_at_the_first_evaluation_at_or_after_it(every: int, decided_after: list[int]) -> None:
    said = decisions(Asha(MAP, 3, 3, 27), "mAP", [[0.5] * 20], every)[0]
    assert [every * (place + 1) for place, one in enumerate(said) if one.reason] == decided_after
