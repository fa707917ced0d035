import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.metrics.culane import LaneF1Statistics, match_lanes
from trainer.metrics.statistics import draws, point

SIZE = (300, 400)


def upright(x: float, bottom: float = 300) -> np.ndarray:
    return np.array([[x, y] for y in np.linspace(0, bottom, 8)])


@settings(max_examples=40, deadline=None)
@given(shift=st.integers(-40, 40).filter(lambda shift: abs(shift) != 10), x=st.integers(100, 300))
def test_two_upright_lanes_match_when_bands_of_thirty_pixels_overlap_by_half(shift: int, x: int) -> None:
    overlap = (30 - abs(shift)) / (30 + abs(shift))
    assert match_lanes([upright(x + shift)], [upright(x)], SIZE)[0] == (overlap > 0.5)


def test_each_lane_is_found_once() -> None:
    assert match_lanes([upright(100), upright(103)], [upright(100)], SIZE).tolist() == [1, 1, 0]
    assert match_lanes([upright(100)], [upright(100), upright(103)], SIZE).tolist() == [1, 0, 1]


def test_lanes_are_paired_for_the_largest_sum_of_overlaps() -> None:
    """Greedily, the first prediction would take the lane at 108, the only one that the other can find."""
    assert match_lanes([upright(105), upright(112)], [upright(100), upright(108)], SIZE).tolist() == [2, 0, 0]


def test_lanes_that_cannot_be_drawn_do_not_count_and_repeated_points_do_no_harm() -> None:
    dot, doubled = np.array([[5.0, 5.0]]), np.repeat(upright(100), 2, axis=0)
    nothing = np.zeros((0, 2))
    assert match_lanes([dot, nothing, doubled], [upright(100), dot], SIZE).tolist() == [1, 0, 0]


def test_lanes_outside_the_image_match_nothing() -> None:
    assert match_lanes([upright(9000), upright(1e30)], [upright(9000)], SIZE).tolist() == [0, 2, 1]


def test_f1_is_that_of_the_sums_in_every_draw() -> None:
    matches = np.array([[3, 1, 0], [0, 0, 2], [2, 2, 2], [0, 0, 0]])
    counts = draws(4, 30)
    found = LaneF1Statistics(list(matches)).metrics(counts)
    for row, drawn in enumerate(counts):
        hits, false, missed = drawn @ matches
        if hits:
            precision, recall = hits / (hits + false), hits / (hits + missed)
            assert found["F1"][row] == pytest.approx(2 * precision * recall / (precision + recall))
            assert (found["precision"][row], found["recall"][row]) == pytest.approx((precision, recall))
        assert np.isnan(found["F1"][row]) == (hits + false + missed == 0)


def test_without_lanes_nothing_is_defined_and_false_lanes_alone_have_no_recall() -> None:
    empty, false = match_lanes([], [], SIZE), match_lanes([upright(9)], [], SIZE)
    assert point(LaneF1Statistics([empty])) == {"F1": None, "precision": None, "recall": None}
    assert point(LaneF1Statistics([empty, false])) == {"F1": 0.0, "precision": 0.0, "recall": None}
