import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from trainer.metrics.statistics import draws, point
from trainer.metrics.tusimple import TusimpleStatistics, frame_score

HEIGHTS = np.arange(240, 640, 20)


def lane(x: float, slope: float, first: int = 0, last: int = 20) -> list[float]:
    """Of the 20 heights ``first`` to ``last``; absent elsewhere."""
    return [x + slope * step if first <= step < last else -2 for step in range(20)]


FOUR = [lane(300, -10), lane(500, -3), lane(700, 4), lane(800, 22, 0, 16)]
FIVE = [*FOUR, lane(900, 40, 2, 10)]
FALSE = [lane(100, 3), lane(150, 3), lane(200, 3)]
BESIDE = [[x + 21 if x >= 0 else x for x in one] for one in FOUR]
OFFICIAL = {
    "all as they are": (FOUR, FOUR, 10, (1, 0, 0)),
    "21 pixels beside: near enough for slanted lanes only": (BESIDE, FOUR, 10, (0.5, 0.5, 0.5)),
    "one missed, one false": ([*FOUR[:3], FALSE[0]], FOUR, 10, (0.75, 0.25, 0.25)),
    "30 percent missing": ([lane(300, -10, 0, 14)], FOUR[:1], 10, (0.7, 1, 1)),
    "15 percent missing": ([lane(300, -10, 0, 17)], FOUR[:1], 10, (0.85, 0, 0)),
    "two lanes found by one": ([lane(300, -10)], [lane(295, -10), lane(305, -10)], 10, (1, -1, 0)),
    "two too many": ([*FOUR, *FALSE[:2]], FOUR, 10, (1, 1 / 3, 0)),
    "three too many": ([*FOUR, *FALSE], FOUR, 10, (0, 0, 1)),
    "just fast enough": (FOUR, FOUR, 200, (1, 0, 0)),
    "too slow": (FOUR, FOUR, 200.5, (0, 0, 1)),
    "five lanes, one missed": (FOUR, FIVE, 10, (1, 0, 0)),
    "five lanes, two missed": (FOUR[:3], FIVE, 10, (0.75, 0, 0.25)),
    "nothing predicted": ([], FOUR, 10, (0, 0, 1)),
    "nothing there": (FOUR[:1], [], 10, (0, 1, 0)),
    "nothing at all": ([], [], 10, (0, 0, 0)),
}
"""Predicted, true, run time, and what lane.py (TuSimple/tusimple-benchmark, commit 365c4cd) says of them."""


def arrays(lanes: list[list[float]]) -> np.ndarray:
    return np.array(lanes, float).reshape(-1, len(HEIGHTS))


@pytest.mark.parametrize("case", OFFICIAL)
def test_a_frame_scores_as_the_official_code_says(case: str) -> None:
    predicted, truth, run_time, expected = OFFICIAL[case]
    found = frame_score(arrays(predicted), arrays(truth), HEIGHTS, run_time)
    assert found[:3] == pytest.approx(expected, abs=1e-12)


def by_the_rules(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """The benchmark's rules once more, lane by lane."""
    if len(predicted) - len(truth) > 2:
        return 0.0, 0.0, 1.0
    best = []
    for wanted in truth:
        seen = wanted >= 0
        tilt = LinearRegression().fit(HEIGHTS[seen, None], wanted[seen]).coef_[0] if seen.sum() > 1 else 0.0
        reach = 20 / np.cos(np.arctan(tilt))
        shares = [0.0]
        for found in predicted:
            hits = 0
            for a, b in zip(found, wanted, strict=True):
                hits += abs(a - b) < reach if a >= 0 and b >= 0 else (a < 0 and b < 0) or abs(max(a, b) + 100) < reach
            shares.append(hits / len(wanted))
        best.append(max(shares))
    matched = sum(share >= 0.85 for share in best)
    missed, total = len(truth) - matched, sum(best)
    if len(truth) > 4:
        missed, total = missed - (missed > 0), total - min(best)
    scored = min(max(len(truth), 1), 4)
    return total / scored, (len(predicted) - matched) / len(predicted) if len(predicted) else 0.0, missed / scored


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_any_frame_scores_by_the_rules(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lanes = range(rng.integers(7))
    truth = [lane(rng.integers(100, 1100), rng.integers(-30, 30), 0, rng.integers(1, 21)) for _ in lanes]
    moved = [np.array(one) + (np.array(one) >= 0) * rng.integers(-25, 26, 20) for one in truth]
    extra = [lane(rng.integers(100, 1100), 3) for _ in range(rng.integers(4))]
    predicted = arrays([*(one.tolist() for one in moved if rng.random() < 0.8), *extra])
    found = frame_score(predicted, arrays(truth), HEIGHTS)
    assert found[:3] == pytest.approx(by_the_rules(predicted, arrays(truth)), abs=1e-12)
    assert found[3] == len(truth)


def test_the_metrics_are_means_over_images_in_every_draw() -> None:
    frames = [frame_score(arrays(FOUR[:n]), arrays(FOUR), HEIGHTS) for n in (0, 1, 4)]
    counts = draws(3, 20)
    found = TusimpleStatistics(frames).metrics(counts)
    for name, column in (("accuracy", 0), ("FP", 1), ("FN", 2)):
        drawn = [np.repeat([frame[column] for frame in frames], row.astype(int)) for row in counts]
        assert found[name] == pytest.approx([values.mean() for values in drawn])


def test_without_a_single_true_lane_only_false_ones_are_defined() -> None:
    frames = [frame_score(arrays(FOUR[:n]), arrays([]), HEIGHTS) for n in (0, 1)]
    assert point(TusimpleStatistics(frames)) == {"accuracy": None, "FP": 0.5, "FN": None}
