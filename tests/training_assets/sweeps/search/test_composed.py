"""What a search said once it says again, and a killed one goes on as if it had never been away."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training_assets.sweeps.goals import Constraint, Goals, Objective
from training_assets.sweeps.search import search_of
from training_assets.sweeps.search.base import Search
from training_assets.sweeps.settings import EarlyStop, Pbt, Strategy
from training_assets.sweeps.space import Categorical, IntUniform, LogUniform, Parameter, Space, Uniform
from training_assets.sweeps.trials import Decision, Suggestion, Trials, TrialState

SPACE = Space(
    (
        Parameter("optim.lr", LogUniform(1e-4, 1e-1)),
        Parameter("optim.name", Categorical(("sgd", "adam", "lamb"))),
        Parameter("model.depth", IntUniform(1, 4)),
        Parameter("augment.jitter", Uniform(0.0, 0.4, 0.1)),
    )
)
ONE = Goals((Objective("mAP"),))
TWO = Goals((Objective("mAP"), Objective("ms", "minimize")), (Constraint.parse("MB <= 3"),))
EPOCHS = 9


def made(name: str, trials: Trials, goals: Goals = ONE, clock: Callable[[], float] = lambda: 0.0) -> Search:
    settings = Strategy.model_validate({"name": name, "seed": 3})
    return search_of(SPACE, goals, settings, EarlyStop(first_rung=1, eta=3), Pbt(), EPOCHS, trials, clock)


class Remembered(Trials):
    """Trials that keep the calls that made them."""

    def __init__(self, calls: Iterable[tuple[str, tuple[Any, ...]]] = ()) -> None:
        super().__init__()
        self.calls = list(calls)
        for name, arguments in self.calls:
            getattr(Trials, name)(self, *arguments)

    def asked(self, trial_id: int, suggestion: Suggestion, now: float) -> None:
        self.calls.append(("asked", (trial_id, suggestion, now)))
        super().asked(trial_id, suggestion, now)

    def reported(self, trial_id: int, epoch: int, metrics: Any, now: float) -> None:
        self.calls.append(("reported", (trial_id, epoch, metrics, now)))
        super().reported(trial_id, epoch, metrics, now)

    def decided(self, trial_id: int, epoch: int, decision: Decision, now: float) -> None:
        self.calls.append(("decided", (trial_id, epoch, decision, now)))
        super().decided(trial_id, epoch, decision, now)

    def became(self, trial_id: int, state: TrialState, now: float) -> None:
        self.calls.append(("became", (trial_id, state, now)))
        super().became(trial_id, state, now)


class Driver:
    """Three workers; whose turn it is comes from outside. ``kills``: the turns before which the search dies."""

    def __init__(self, name: str, goals: Goals, kills: frozenset[int]) -> None:
        self.name, self.goals, self.kills = name, goals, kills
        self.turn = 0
        self.trials = Remembered()
        self.search = self._search()

    def _search(self) -> Search:
        return made(self.name, self.trials, self.goals, lambda: float(self.turn))

    def run(self, turns: Iterable[int]) -> list[tuple[str, tuple[Any, ...]]]:
        for self.turn, choice in enumerate(turns):
            if self.turn in self.kills:
                self.trials = Remembered(self.trials.calls)
                self.search = self._search()
            running = [trial.id for trial in self.trials if trial.state == "running"]
            if len(running) < 3:
                self.search.suggest(len(self.trials))
            else:
                self._epoch(running[choice % 3])
        return self.trials.calls

    def _epoch(self, trial_id: int) -> None:
        epoch = self.trials[trial_id].epoch + 1
        decision = self.search.report(trial_id, epoch, metrics_of(self.trials[trial_id].params, epoch))
        if decision.verdict == "stop" or epoch == EPOCHS:
            self.search.finish(trial_id, "stopped" if decision.verdict == "stop" else "completed")


def metrics_of(params: Any, epoch: int) -> dict[str, float]:
    quality = -abs(math.log10(params["optim.lr"]) + 2.2) - (params["optim.name"] == "lamb")
    return {"mAP": quality - 1 / epoch, "ms": params["model.depth"] * 2.0, "MB": params["model.depth"] * 1.0}


@pytest.mark.parametrize("goals", [ONE, TWO], ids=["one objective", "two and a constraint"])
@pytest.mark.parametrize("name", ["random", "asha", "hyperband", "bayes", "bayes+asha"])
@settings(deadline=None, max_examples=3)
@given(
    turns=st.lists(st.integers(0, 2), min_size=90, max_size=90),
    kills=st.frozensets(st.integers(0, 89), max_size=12),
)
def test_a_killed_search_suggests_and_decides_as_one_that_lived_on(
    name: str, goals: Goals, turns: list[int], kills: frozenset[int]
) -> None:
    assert Driver(name, goals, kills).run(turns) == Driver(name, goals, frozenset()).run(turns)


def test_a_repeated_call_is_answered_as_before_and_recorded_once() -> None:
    trials = Remembered()
    search = made("asha", trials)
    first = search.suggest(0)
    said = search.report(0, 1, {"mAP": 0.1})
    for trial_id in range(1, 6):
        search.suggest(trial_id)
        search.report(trial_id, 1, {"mAP": 0.5 + trial_id})
    search.finish(0, "failed")
    calls = list(trials.calls)
    assert search.suggest(0) == first
    assert search.report(0, 1, {"mAP": 0.9}) == said
    search.finish(0, "completed")
    assert trials.calls == calls
    assert trials[0].state == "failed"


def test_a_report_whose_decision_was_lost_is_decided_on_what_was_heard_first() -> None:
    trials = Trials()
    trials.asked(0, Suggestion({}), 0.0)
    trials.reported(0, 1, {"mAP": math.nan}, 0.0)
    assert made("random", trials).report(0, 1, {"mAP": 0.5}).verdict == "stop"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["random", "asha", "bayes+asha"])
def test_a_value_that_is_not_finite_stops_a_trial_at_once(name: str, value: float) -> None:
    search = made(name, Trials())
    search.suggest(0)
    decision = search.report(0, 1, {"mAP": value})
    assert (decision.verdict, decision.rule) == ("stop", "finite")
    assert decision.reason == f"mAP is {value} after epoch 1"


def test_an_epoch_without_evaluation_goes_on() -> None:
    search = made("bayes+asha", Trials())
    search.suggest(0)
    assert search.report(0, 1, {"loss": 0.4}).verdict == "continue"


def test_trials_that_diverged_teach_the_model_to_stay_away() -> None:
    trials = Trials()
    search = made("bayes+asha", trials)
    for trial_id in range(60):
        search.suggest(trial_id)
        rate = math.log10(float(trials[trial_id].params["optim.lr"]))  # type: ignore[arg-type]
        value = math.nan if rate > -2.5 else -abs(rate + 3.2)
        stops = search.report(trial_id, 1, {"mAP": value}).verdict == "stop"
        search.finish(trial_id, "stopped" if stops else "completed")
    late = [math.isnan(trials[trial_id].metrics["mAP"]) for trial_id in range(30, 60)]
    assert sum(late) < 8  # 15 by chance


def test_each_trial_draws_from_its_own_stream() -> None:
    one, other = made("random", Trials()), made("random", Trials())
    assert [one.suggest(7), one.suggest(8)] == [other.suggest(7), other.suggest(8)]
    assert one.suggest(7) != one.suggest(8)


def test_grid_goes_through_every_point_once_and_ends() -> None:
    space = Space((Parameter("a", Categorical(("x", "y"))), Parameter("b", IntUniform(1, 3))))
    strategy = Strategy(name="grid")
    search = search_of(space, ONE, strategy, EarlyStop(), Pbt(), EPOCHS, Trials(), lambda: 0.0)
    suggestions = [search.suggest(trial_id) for trial_id in range(7)]
    assert suggestions[6] is None
    assert len({tuple(one.params.values()) for one in suggestions[:6] if one}) == 6


def test_a_grid_without_end_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"optim\.lr: a grid needs values that can be counted off"):
        made("grid", Trials())
