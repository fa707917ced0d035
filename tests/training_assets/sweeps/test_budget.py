"""The hard budget: what is promised before a trial starts, when the running ones are stopped, what people are told."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from training_assets.launchers.base import Estimate
from training_assets.sweeps.budget import Ledger, Refusal, TrialCost, budget_problems
from training_assets.sweeps.settings import Budget

HOUR = 3600.0
DOLLAR_AN_HOUR = Estimate("g5.xlarge", nodes=1, gpus=2, usd_per_hour=1.0)


def cost(trial: int, hours: float, epochs: int, running: bool = False, begun_at: int = 0) -> TrialCost:
    return TrialCost(trial, running, hours * HOUR, 2 * hours, hours, epochs, begun_at)


def ledger(*costs: TrialCost, hours: float = 0.0, guess: float | None = None, **budget: float) -> Ledger:
    caps = Budget.model_validate(budget)
    return Ledger(caps, 10, DOLLAR_AN_HOUR, costs, 0.0, hours * HOUR, guess)


def test_the_first_trial_is_promised_what_it_is_believed_to_take() -> None:
    books = ledger(guess=2 * HOUR, max_cost_usd=3)
    one = books.reserve(0)
    assert isinstance(one, Ledger)
    assert (one.spent("max_cost_usd"), one.reserved("max_cost_usd")) == (0.0, 2.0)
    refused = one.reserve(1)
    assert isinstance(refused, Refusal)
    assert (refused.cap, refused.needed, refused.limit) == ("max_cost_usd", 4.0, 3.0)


def test_what_ended_trials_took_an_epoch_is_what_others_are_promised() -> None:
    books = ledger(cost(0, 1.0, 10), cost(1, 0.5, 4, running=True), guess=100 * HOUR, max_cost_usd=3)
    assert books.seconds_of_epochs(10) == HOUR
    assert books.reserved("max_cost_usd") == 0.6
    assert isinstance(books.reserve(2), Refusal)
    assert isinstance(replace(books, budget=Budget(max_cost_usd=3.1)).reserve(2), Ledger)


def test_a_paused_trial_and_a_copy_are_promised_only_what_they_have_left() -> None:
    books = ledger(cost(0, 1.0, 10), cost(1, 0.3, 3), max_trials=3, gpu_hours=100)
    resumed = books.reserve(1)
    assert isinstance(resumed, Ledger)
    assert round(resumed.reserved("gpu_hours"), 9) == 1.4
    assert resumed.spent("max_trials") == 2
    copied = books.reserve(2, begun_at=8)
    assert isinstance(copied, Ledger)
    assert round(copied.reserved("gpu_hours"), 9) == 0.4


def test_where_nothing_is_known_of_a_trial_one_goes_first_alone() -> None:
    first = ledger(max_cost_usd=3).reserve(0)
    assert isinstance(first, Ledger)
    refused = first.reserve(1)
    assert isinstance(refused, Refusal)
    assert "alone first" in str(refused)
    known = replace(first, costs=(cost(0, 0.1, 1, running=True),))
    assert isinstance(known.reserve(1), Ledger)


def test_no_more_trials_than_asked_for_are_started() -> None:
    refused = ledger(cost(0, 1, 10), cost(1, 1, 3), max_trials=2).reserve(2)
    assert str(refused) == "all 2 trials (max_trials) were started"


def test_a_reached_cap_is_named_with_how_far_it_is_passed() -> None:
    books = ledger(cost(0, 2.0, 10), cost(1, 1.5, 4, running=True), hours=4, max_cost_usd=3, wall_time=5 * HOUR)
    (found,) = books.exceeded()
    assert (found.cap, found.by) == ("max_cost_usd", 0.5)
    assert str(found) == "3.0 US dollars (max_cost_usd) are used up, 0.5 too many"
    assert [one.cap for one in books.exceeded(ahead=HOUR)] == ["wall_time", "max_cost_usd"]


def test_people_read_what_is_spent_reserved_and_to_come() -> None:
    costs = [cost(number, 3.1, 10) for number in range(3)]
    books = ledger(*costs, cost(3, 1.55, 5, running=True), hours=5, max_cost_usd=20, max_trials=6, wall_time="2d")
    # 9.3 of ended trials, 1.55 of the running one; that has as much left; two more of 3.1 each.
    assert books.sentences() == [
        "4 of 6 trials started, the sweep will end after about 6",
        "5.0 of 48.0 hours passed, 1.6 reserved, the sweep will end at about 12.8",
        "10.8 of 20.0 US dollars spent, 1.6 reserved, the sweep will end at about 18.6",
    ]


def test_the_forecast_never_passes_a_cap() -> None:
    books = ledger(cost(0, 3.0, 10), max_cost_usd=10, max_trials=100)
    assert books.forecast("max_cost_usd") == 9.0
    assert books.forecast("max_trials") == 3


def test_a_cap_on_money_without_a_price_is_refused_before_anything_starts() -> None:
    here = Estimate("this machine", nodes=1, gpus=0, usd_per_hour=None)
    (problem,) = budget_problems(Budget(max_cost_usd=5), here, "sweep.yaml")
    assert problem.field == "budget.max_cost_usd"
    assert not list(budget_problems(Budget(max_cost_usd=5), DOLLAR_AN_HOUR, "sweep.yaml"))


ACTIONS = st.lists(st.one_of(st.just("start"), st.integers(0, 9), st.just("tick")), max_size=120)


@given(ACTIONS, st.floats(0.05, 3.0), st.floats(0.1, 8.0), st.one_of(st.none(), st.floats(0.1, 5.0)))
def test_whatever_the_order_no_cap_is_passed_by_more_than_one_heartbeat(
    actions: list[str | int], heartbeat: float, dollars: float, guess: float | None
) -> None:
    """Trials take far more than was believed, start and end at any time; looked at once a heartbeat (in hours)."""
    kept: dict[int, TrialCost] = {}
    hours, most = 0.0, 0

    def books() -> Ledger:
        """Made anew each time, as after a restart."""
        return ledger(*kept.values(), hours=hours, guess=guess and guess * HOUR, max_cost_usd=dollars, max_trials=20)

    for action in actions:
        running = [one for one in kept.values() if one.running]
        if action == "start" and not books().exceeded():
            number = len(kept)
            if isinstance(found := books().reserve(number), Ledger):
                assert found.spent("max_cost_usd") + found.reserved("max_cost_usd") <= dollars + 1e-6
                kept[number] = found.costs[-1]
        elif isinstance(action, int) and action in kept:
            kept[action] = replace(kept[action], running=False)
        elif action == "tick":
            hours += heartbeat
            for one in running:
                kept[one.trial] = cost(one.trial, one.seconds / HOUR + heartbeat, one.epochs + 1, running=True)
            most = max(most, len(running))
            assert books().spent("max_cost_usd") <= dollars + most * heartbeat + 1e-6
            if books().exceeded():
                kept = {number: replace(one, running=False) for number, one in kept.items()}
        again = replace(books(), costs=tuple(reversed(books().costs)))
        assert again.sentences() == books().sentences()
        assert again.exceeded() == books().exceeded()
    assert books().spent("max_trials") <= 20


@given(st.integers(1, 8), st.floats(0.01, 1.0), st.floats(1.0, 9.0))
def test_looking_one_heartbeat_ahead_no_cap_is_passed_at_all(trials: int, heartbeat: float, dollars: float) -> None:
    costs = [TrialCost(number, running=True) for number in range(trials)]
    hours = 0.0
    while not ledger(*costs, hours=hours, max_cost_usd=dollars).exceeded(ahead=heartbeat * HOUR):
        hours += heartbeat
        costs = [cost(number, hours, 1, running=True) for number in range(trials)]
    assert sum(one.usd or 0.0 for one in costs) <= dollars + 1e-6
