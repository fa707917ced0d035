"""Stability of a ranking: the figures are scipy's, and those of a published worked example."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.contract.errors import ContractError
from training_assets.sweeps.stability import stability

# "Student" (W. S. Gosset), "The Probable Error of a Mean", Biometrika 1908, table I: additional hours of sleep of ten
# patients by two drugs. The difference is 1.58 hours on average with t = 4.06, its 95 % interval [0.70, 2.46].
DEXTRO = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
LAEVO = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)


def test_students_sleep_data_give_the_published_interval():
    found = stability({1: DEXTRO, 2: LAEVO})
    (comparison,) = found.comparisons
    assert (found.winner, found.before, found.changed, found.distinct) == (2, 1, True, True)
    assert comparison.difference == pytest.approx(1.58)
    assert (comparison.low, comparison.high) == (pytest.approx(0.70, abs=0.005), pytest.approx(2.46, abs=0.005))
    assert comparison.effect == pytest.approx(4.0621 / math.sqrt(10), abs=1e-4)  # t / sqrt(n)
    assert found.sentence == (
        "Trial 2 wins, not trial 1, over 10 seeds and is distinct from every other, by an effect of 1.3 at least."
    )


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.floats(0, 1).map(lambda x: round(x, 6)), min_size=4, max_size=4), min_size=2, max_size=5)
)
def test_intervals_are_scipys_with_the_confidence_shared_out(rows: list[list[float]]):
    from scipy.stats import ttest_rel

    found = stability(dict(enumerate(rows)))
    for comparison in found.comparisons:
        own, other = rows[found.winner], rows[comparison.other]
        if len({round(a - b, 9) for a, b in zip(own, other, strict=True)}) == 1:
            continue
        interval = ttest_rel(own, other).confidence_interval(1 - 0.05 / (len(rows) - 1))
        assert (comparison.low, comparison.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_a_difference_within_what_seeds_do_is_not_distinct():
    found = stability({7: (0.50, 0.40, 0.60), 3: (0.49, 0.45, 0.55), 5: (0.1, 0.0, 0.2)})
    assert (found.winner, found.changed, found.distinct) == (7, False, False)
    assert [one.distinct for one in found.comparisons] == [False, True]
    assert "Trial 7 still wins over 3 seeds, but is not distinct from trial 3: ahead of trial 3 by" in found.sentence


def test_a_certain_but_small_effect_is_not_distinct():
    scores = {
        0: [0.5 + 0.01 * (n % 10) + 0.001 for n in range(200)],
        1: [0.5 + 0.01 * (n * 3 % 10) for n in range(200)],
    }
    (comparison,) = stability(scores, confidence=0.5, min_effect=0.2).comparisons
    assert comparison.effect < 0.2
    assert not comparison.distinct


def test_what_few_seeds_leave_open_is_said():
    found = stability({0: (0.50, 0.40, 0.60), 1: (0.45, 0.41, 0.52)})
    assert (found.distinct, found.certain) == (True, False)
    assert found.sentence.endswith("; more seeds are needed to be certain of trial 1.")


def test_the_winner_of_one_seed_loses_where_the_others_say_so():
    found = stability({4: (0.9, 0.1, 0.2), 8: (0.8, 0.8, 0.8)})
    assert (found.winner, found.before, found.changed) == (8, 4, True)


def test_the_same_difference_under_every_seed_is_as_distinct_as_can_be():
    (comparison,) = stability({0: (0.5, 0.25), 1: (0.25, 0.0)}).comparisons
    assert (comparison.effect, comparison.low, comparison.distinct) == (math.inf, 0.25, True)
    (tie,) = stability({0: (0.5, 0.25), 1: (0.5, 0.25)}).comparisons
    assert (tie.effect, tie.distinct) == (0.0, False)


def test_a_trial_that_failed_under_a_seed_cannot_win():
    found = stability({0: (0.9, math.nan), 1: (0.5, 0.6), 2: (0.4, 0.4)})
    assert found.winner == 1
    assert [one.other for one in found.comparisons] == [2]
    assert found.sentence.endswith("; trial 0 failed under a seed.")


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({0: (0.1, 0.2)}, "two at least"),
        ({0: (0.1, 0.2), 1: (0.1,)}, "the same seeds"),
        ({0: (0.1,), 1: (0.2,)}, "two seeds at least"),
        ({0: (math.nan, 0.2), 1: (0.1, math.inf)}, "all finite"),
        ({}, "two at least"),
    ],
)
def test_what_cannot_be_judged_is_said(scores: dict[int, tuple[float, ...]], expected: str):
    with pytest.raises(ContractError, match=expected):
        stability(scores)
