"""The limits: each is passed when a look over all figures says so, and not a moment before."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training_assets.observability.figures import Figures
from training_assets.observability.watchdogs import IDLE_PERCENT, MINUTE, Standing
from training_assets.profiles.watching import Watch

T0 = 1_700_000_000.0


def standing(figures: list[Figures]) -> Standing:
    now = Standing()
    for one in figures:
        now = now.after(one)
    return now


def passed(figures: list[Figures], **limits: float) -> set[str]:
    return {trip.limit for trip in standing(figures).trips(Watch(**limits))}


@st.composite
def histories(draw: st.DrawFn) -> list[Figures]:
    gaps = draw(st.lists(st.floats(1, 400), min_size=1, max_size=40))
    moments = list(itertools.accumulate(gaps, initial=T0))
    step, found = 0, []
    for at in moments:
        step += draw(st.sampled_from([0, 0, 0, 1, 7]))
        gpu = draw(st.sampled_from([None, 0.0, 9.99, IDLE_PERCENT, 55.0]))
        cost = draw(st.sampled_from([None, step * 1.5]))
        found.append(Figures(at, step=draw(st.sampled_from([None, step])), gpu_utilisation=gpu, cost_usd=cost))
    return found


def idled(history: list[Figures]) -> float:
    """Seconds of the run of idle samples at the end, as one says it: unknown ones aside, from the first to the last."""
    known = [one for one in history if one.gpu_utilisation is not None]
    tail = list(itertools.takewhile(lambda one: one.gpu_utilisation < IDLE_PERCENT, reversed(known)))
    return tail[0].at - tail[-1].at if tail else 0.0


def without_progress(history: list[Figures]) -> float:
    """Seconds since the last sample whose step is higher than every one before it; the first step is no progress."""
    highest, moved = None, history[0].at
    for one in history:
        if one.step is not None and (highest is None or one.step > highest):
            moved = moved if highest is None else one.at
            highest = one.step
    return history[-1].at - moved


@pytest.mark.slow
@given(history=histories(), minutes=st.floats(0.1, 30))
def test_idle_gpus_are_told_when_all_samples_of_so_many_minutes_were_below_a_tenth(history, minutes):
    tripped = "idle_gpu_minutes" in passed(history, idle_gpu_minutes=minutes)
    known = any(one.gpu_utilisation is not None for one in history)
    assert tripped == (known and idled(history) >= minutes * MINUTE)


@given(history=histories(), minutes=st.floats(0.1, 30))
def test_no_progress_is_told_when_the_step_did_not_grow_for_so_many_minutes(history, minutes):
    assert ("no_progress_minutes" in passed(history, no_progress_minutes=minutes)) == (
        without_progress(history) >= minutes * MINUTE
    )


@given(history=histories(), cap=st.floats(0.1, 200))
def test_spend_is_told_as_soon_as_the_last_known_cost_is_above_the_cap(history, cap):
    costs = [one.cost_usd for one in history if one.cost_usd is not None]
    assert ("max_cost_usd" in passed(history, max_cost_usd=cap)) == bool(costs and costs[-1] > cap)


@given(history=histories())
def test_without_limits_nothing_is_told(history):
    assert not standing(history).trips(Watch())


@pytest.mark.parametrize(("seconds", "told"), [(599, False), (600, True)])
def test_ten_minutes_are_ten_minutes(seconds: int, told: bool) -> None:
    history = [Figures(T0 + at, gpu_utilisation=9.0) for at in (0, 300, seconds)]
    assert bool(passed(history, idle_gpu_minutes=10)) == told


def test_one_busy_moment_begins_the_ten_minutes_anew() -> None:
    history = [Figures(T0 + 60 * minute, gpu_utilisation=50.0 if minute == 5 else 1.0) for minute in range(15)]
    assert not passed(history, idle_gpu_minutes=10)
    assert passed([*history, Figures(T0 + 60 * 16, gpu_utilisation=1.0)], idle_gpu_minutes=10)


def test_money_comes_first_and_the_message_has_both_sums() -> None:
    history = [Figures(T0, step=1, cost_usd=1.0), Figures(T0 + 7200, step=1, cost_usd=120.5)]
    first, second = standing(history).trips(Watch(max_cost_usd=100, no_progress_minutes=60))
    assert first.limit == "max_cost_usd"
    assert "120.50 US dollars" in first.message
    assert "100.00" in first.message
    assert "after step 1" in second.message
