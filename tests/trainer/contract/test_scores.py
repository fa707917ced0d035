"""Scores by hand, and what must hold of them for any metrics."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.scores import cross_validation_score, is_unstable, metric_of, run_score

POSITIVE = st.floats(1e-3, 1.0)


def test_a_single_metric_is_the_mean_over_the_runs():
    runs = [{"segmentation/mIoU": 0.4}, {"segmentation/mIoU": 0.6}]
    for mean in ("arithmetic", "geometric", "harmonic", "min"):
        assert cross_validation_score(runs, ["segmentation/mIoU"], mean) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("mean", "expected"),
    [("arithmetic", 0.75), ("geometric", math.sqrt(0.5)), ("harmonic", 2 / 3), ("min", 0.5)],
)
def test_several_metrics_are_combined_for_each_run_before_the_runs_are_averaged(mean, expected):
    # The harmonic mean of precision and recall is F1 (van Rijsbergen, 1979).
    run = {"a/precision": 0.5, "a/recall": 1.0}
    assert run_score(run, ["a/precision", "a/recall"], mean) == pytest.approx(expected)
    better = {"a/precision": 1.0, "a/recall": 1.0}
    both = cross_validation_score([run, better], ["a/precision", "a/recall"], mean)
    assert both == pytest.approx((expected + 1) / 2)


def test_a_metric_that_is_better_when_lower_enters_as_its_inverse():
    run = {"trajectory/FDE": 4.0, "lanes/F1": 0.5, "x/anything": 4.0}
    assert run_score(run, ["trajectory/FDE"], "harmonic") == 0.25
    assert run_score(run, ["x/anything:lower"], "min") == 0.25
    assert run_score(run, ["trajectory/FDE:higher"], "min") == 4.0
    assert run_score(run, ["trajectory/FDE", "lanes/F1:higher"], "min") == 0.25
    assert metric_of("x/anything:lower") == "x/anything"
    assert metric_of("detection/AP/cone:red") == "detection/AP/cone:red"


@pytest.mark.parametrize("value", [0.0, -0.0, None, math.nan, math.inf, -math.inf])
def test_a_run_is_unstable_where_a_scoring_metric_is_missing_not_finite_or_zero(value):
    run = {"a/x": 0.5, "a/y": value}
    assert is_unstable(run, ["a/x", "a/y"])
    assert not is_unstable(run, ["a/x"])
    assert is_unstable({"a/x": 0.5}, ["a/y"])
    assert is_unstable(None, ["a/x"])


@pytest.mark.parametrize("failed", [None, {}, {"a/x": math.nan}, {"a/x": None}, {"a/x": math.inf}])
def test_a_run_without_a_usable_result_counts_as_nought_and_does_not_vanish(failed):
    assert cross_validation_score([{"a/x": 0.8}, failed], ["a/x"], "harmonic") == pytest.approx(0.4)


def test_a_perfect_error_of_nought_has_no_inverse():
    assert run_score({"trajectory/FDE": 0.0}, ["trajectory/FDE"], "arithmetic") == 0.0


@given(values=st.lists(POSITIVE, min_size=1, max_size=5))
def test_the_means_are_in_their_known_order(values):
    run = {f"a/m{number}": value for number, value in enumerate(values)}
    least, harmonic, geometric, arithmetic = (
        run_score(run, list(run), mean) for mean in ("min", "harmonic", "geometric", "arithmetic")
    )
    assert least <= harmonic + 1e-12
    assert harmonic <= geometric + 1e-12
    assert geometric <= arithmetic + 1e-12


@given(
    values=st.lists(st.one_of(st.none(), st.floats(allow_nan=True)), min_size=1, max_size=4),
    mean=st.sampled_from(["arithmetic", "geometric", "harmonic", "min"]),
)
def test_a_score_is_always_a_number(values, mean):
    run = {f"a/m{number}": value for number, value in enumerate(values)}
    assert math.isfinite(run_score(run, [f"{name}:lower" for name in run], mean))
