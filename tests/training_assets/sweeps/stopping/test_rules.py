"""Each rule on curves whose outcome is known from elsewhere: numpy's quantiles, the trainer's median rule, by hand."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.contract.curves import median_of_running_averages
from training_assets.sweeps.goals import Constraint, Goals, Objective
from training_assets.sweeps.settings import EarlyStop
from training_assets.sweeps.stopping import rules_of
from training_assets.sweeps.stopping.base import Rule
from training_assets.sweeps.stopping.guardrails import Guardrails
from training_assets.sweeps.stopping.hyperband import Hyperband
from training_assets.sweeps.stopping.plateau import Plateau
from training_assets.sweeps.stopping.quantile import Quantile
from training_assets.sweeps.stopping.running_median import RunningMedian
from training_assets.sweeps.trials import Decision, Suggestion, Trials

MAP = Goals((Objective("val/mAP"),))
LOSS = Goals((Objective("val/loss", "minimize"),))
TWO = Goals((Objective("val/mAP"), Objective("latency_ms", "minimize")))
BOUND = Goals((Objective("val/mAP"),), (Constraint.parse("latency_ms <= 20"),))


def told(trials: Trials, trial_id: int, epoch: int, rule: Rule, **metrics: float) -> Decision:
    """A trial reports; ``val_mAP=0.1`` is ``val/mAP``."""
    if trial_id not in trials:
        trials.asked(trial_id, Suggestion({}), 0.0)
    named = {name.replace("val_", "val/"): value for name, value in metrics.items()}
    trials.reported(trial_id, epoch, named, 0.0)
    return rule.decide(trials[trial_id], epoch, trials)


def in_turn(trials: Trials, rule: Rule, epoch: int, metric: str, values: Sequence[float]) -> list[Decision]:
    """Trial after trial reports after the same epoch."""
    return [told(trials, trial_id, epoch, rule, **{metric: value}) for trial_id, value in enumerate(values)]


def test_quantile_is_numpys_of_the_others_after_the_same_epoch():
    trials, rule = Trials(), Quantile(MAP, 0.4, after_epochs=3, min_trials=5)
    others = [0.9, 0.1, 0.5, 0.3, 0.7]
    assert {one.verdict for one in in_turn(trials, rule, 3, "val_mAP", others)} == {"continue"}
    limit = float(np.quantile(others, 0.4))
    assert told(trials, 10, 3, rule, val_mAP=limit).verdict == "continue"
    said = told(trials, 11, 3, rule, val_mAP=limit - 0.01)
    assert (said.verdict, said.rule, said.rung, said.peers) == ("stop", "quantile", 3, 6)
    assert said.threshold == pytest.approx(np.quantile([*others, limit], 0.4))
    assert said.reason == "after epoch 3 val/mAP is 0.41, below 0.42, the 0.4 quantile of 6 others"


def test_quantile_of_a_metric_that_falls_ends_what_is_above():
    trials, rule = Trials(), Quantile(LOSS, 0.5, after_epochs=1, min_trials=3)
    in_turn(trials, rule, 1, "val_loss", [1.0, 2.0, 3.0])
    said = told(trials, 9, 1, rule, val_loss=2.5)
    assert said.reason == "after epoch 1 val/loss is 2.5, above 2, the 0.5 quantile of 3 others"
    assert said.threshold == -2.0


def test_quantile_waits_for_epochs_and_for_others():
    trials, rule = Trials(), Quantile(MAP, 0.5, after_epochs=3, min_trials=5)
    assert {one.verdict for one in in_turn(trials, rule, 2, "val_mAP", [0.9] * 6 + [0.1])} == {"continue"}
    assert told(trials, 0, 3, rule, val_mAP=0.1).verdict == "continue"


def test_a_trial_is_behind_only_where_it_is_behind_in_every_objective():
    trials, rule = Trials(), Quantile(TWO, 0.5, after_epochs=1, min_trials=2)
    for trial_id in range(4):
        told(trials, trial_id, 1, rule, val_mAP=0.5, latency_ms=10.0)
    assert told(trials, 5, 1, rule, val_mAP=0.1, latency_ms=9.0).verdict == "continue"
    said = told(trials, 6, 1, rule, val_mAP=0.1, latency_ms=11.0)
    assert said.verdict == "stop"
    assert "val/mAP is 0.1, below 0.5" in said.reason
    assert "latency_ms is 11, above 10" in said.reason


def test_an_infeasible_trial_is_behind_feasible_ones_however_good():
    trials, rule = Trials(), Quantile(BOUND, 0.5, after_epochs=1, min_trials=2)
    for trial_id in range(3):
        told(trials, trial_id, 1, rule, val_mAP=0.1 * trial_id, latency_ms=10.0)
    said = told(trials, 5, 1, rule, val_mAP=0.9, latency_ms=21.0)
    assert said.reason == "after epoch 1 constraints are broken that most of the 3 others keep"
    assert told(trials, 6, 1, rule, val_mAP=0.9).verdict == "continue"  # its latency is not known yet


CURVES = st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=6), min_size=1, max_size=8)


@given(curves=CURVES)
def test_running_median_is_the_trainers_rule(curves: list[list[float]]):
    trials, rule = Trials(), RunningMedian(MAP, after_epochs=1, min_trials=2)
    for epoch in range(1, 7):
        for trial_id, curve in enumerate(curves):
            if epoch > len(curve):
                continue
            said = told(trials, trial_id, epoch, rule, val_mAP=curve[epoch - 1])
            others = [dict(list(trials[one].curve.items())) for one in range(len(curves)) if one in trials]
            series = [{at: one["val/mAP"] for at, one in other.items()} for other in others]
            del series[trial_id]
            limit = median_of_running_averages([one for one in series if epoch in one], epoch, 2)
            behind = limit is not None and max(curve[:epoch]) < limit
            assert (said.verdict == "stop") == behind or max(curve[:epoch]) == pytest.approx(limit)


def test_plateau_counts_from_the_last_improvement_larger_than_min_delta():
    trials, rule = Trials(), Plateau(MAP, patience=2, min_delta=0.01)
    curve = [0.1, 0.3, 0.3, 0.305, 0.4, 0.4, 0.4]
    verdicts = [told(trials, 0, epoch, rule, val_mAP=value).verdict for epoch, value in enumerate(curve, 1)]
    assert verdicts == ["continue"] * 3 + ["stop", "continue", "continue", "stop"]


def test_plateau_goes_on_while_one_of_several_objectives_improves():
    trials, rule = Trials(), Plateau(TWO, patience=2, min_delta=0.0)
    falls = [told(trials, 0, epoch, rule, val_mAP=0.5, latency_ms=20.0 - epoch) for epoch in range(1, 6)]
    assert {one.verdict for one in falls} == {"continue"}
    stays = [told(trials, 0, epoch, rule, val_mAP=0.5, latency_ms=15.0) for epoch in (6, 7)]
    assert stays[-1].reason == "after epoch 7 val/mAP and latency_ms did not improve by more than 0 for 2 epochs"


def test_plateau_goes_on_while_constraints_are_broken_less():
    trials, rule = Trials(), Plateau(BOUND, patience=2, min_delta=0.0)
    said = [told(trials, 0, epoch, rule, val_mAP=0.5, latency_ms=30.0 - epoch) for epoch in range(1, 13)]
    assert [one.verdict for one in said].index("stop") + 1 == 12  # feasible from epoch 10 on


def test_guardrails_name_all_that_is_broken():
    asked = EarlyStop(guardrails=("det/AP50 >= 0.2", "latency_ms <= 20"), after_epochs=2)
    (rule,) = rules_of(asked, MAP)
    trials = Trials()
    assert told(trials, 0, 1, rule, latency_ms=30.0).verdict == "continue"
    assert told(trials, 0, 2, rule, latency_ms=20.0).verdict == "continue"
    said = told(trials, 0, 3, rule, **{"det/AP50": 0.1, "latency_ms": 25.0})
    assert said.reason == "after epoch 3 det/AP50 is 0.1, not >= 0.2 and latency_ms is 25, not <= 20"
    assert (said.verdict, said.threshold) == ("stop", 0.2)


def test_only_rules_that_are_asked_for_are_made():
    assert rules_of(EarlyStop(), MAP) == []
    asked = EarlyStop(plateau=3, quantile=0.5, running_median=True, guardrails=("val/mAP >= 0.1",))
    assert [type(rule) for rule in rules_of(asked, MAP)] == [Guardrails, Plateau, Quantile, RunningMedian]


@settings(max_examples=50, deadline=None)
@given(
    curves=CURVES,
    order=st.randoms(use_true_random=False),
    make=st.sampled_from(
        [
            lambda: Quantile(BOUND, 0.5, 1, 2),
            lambda: RunningMedian(BOUND, 1, 2),
            lambda: Hyperband(BOUND, 1, 2, 6),
        ]
    ),
)
def test_a_rule_made_again_over_the_same_trials_says_the_same(curves, order, make: Callable[[], Rule]):
    trials, rule = Trials(), make()
    left = {trial_id: list(curve) for trial_id, curve in enumerate(curves)}
    while left:
        trial_id = order.choice(sorted(left))
        epoch = len(curves[trial_id]) - len(left[trial_id]) + 1
        said = told(trials, trial_id, epoch, rule, val_mAP=left[trial_id].pop(0))
        assert make().decide(trials[trial_id], epoch, trials) == said
        if said.verdict == "stop" or not left[trial_id]:
            trials.reported(trial_id, epoch, {"val/mAP": order.random(), "latency_ms": order.choice([10, 30])}, 0.0)
            trials.became(trial_id, "completed", 0.0)
            del left[trial_id]


def test_a_report_that_a_rule_was_not_asked_about_counts_all_the_same():
    trials, rule = Trials(), Quantile(MAP, 0.5, after_epochs=1, min_trials=3)
    told(trials, 0, 1, rule, val_mAP=0.5)
    for trial_id in (1, 2):
        trials.asked(trial_id, Suggestion({}), 0.0)
        trials.reported(trial_id, 1, {"val/mAP": 0.5}, 0.0)
        trials.became(trial_id, "failed", 0.0)
    assert told(trials, 3, 1, rule, val_mAP=0.4).peers == 3


def test_values_that_are_not_finite_are_no_peers():
    trials, rule = Trials(), Quantile(MAP, 0.5, after_epochs=1, min_trials=2)
    in_turn(trials, rule, 1, "val_mAP", [math.nan, math.inf, 0.5])
    assert told(trials, 9, 1, rule, val_mAP=0.4).verdict == "continue"
    told(trials, 8, 1, rule, val_mAP=0.6)
    assert told(trials, 7, 1, rule, val_mAP=0.3).peers == 3


def saturating(rng: np.random.Generator, epochs: int) -> list[Mapping[str, float]]:
    top, pace = rng.uniform(0.2, 0.9), rng.uniform(0.05, 0.5)
    noise = rng.normal(0, 0.01, epochs)
    return [
        {"val/mAP": top * (1 - math.exp(-pace * epoch)) + noise[epoch - 1], "latency_ms": float(30 * top)}
        for epoch in range(1, epochs + 1)
    ]


@pytest.mark.slow
def test_a_thousand_trials_of_fifty_epochs_cost_all_rules_together_seconds():
    goals = Goals(TWO.objectives, (Constraint.parse("latency_ms <= 25"),))
    asked = EarlyStop(plateau=5, quantile=0.2, running_median=True, guardrails=("latency_ms <= 90",))
    rules = [*rules_of(asked, goals), Hyperband(goals, 3, 3, 50)]
    trials, rng = Trials(), np.random.default_rng(0)
    curves = [saturating(rng, 50) for _ in range(1000)]
    began = time.process_time()
    for trial_id, curve in enumerate(curves):  # no verdict is obeyed: the most that can be asked
        trials.asked(trial_id, Suggestion({}), 0.0)
        for epoch, metrics in enumerate(curve, 1):
            trials.reported(trial_id, epoch, metrics, 0.0)
            for rule in rules:
                rule.decide(trials[trial_id], epoch, trials)
        trials.became(trial_id, "completed", 0.0)
    spent = time.process_time() - began
    print(f"{spent:.1f} s")
    assert spent < 30
