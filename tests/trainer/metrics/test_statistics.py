import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trainer.contract.metrics import direction, gain
from trainer.metrics.roc import chance_histogram, roc
from trainer.metrics.statistics import (
    BLOCK,
    Among,
    Joined,
    draws,
    interval,
    intervals,
    mean_of_defined,
    point,
    points,
    ratio,
    resampled,
)


class Mean:
    """The mean of a number a sample."""

    def __init__(self, name: str, values: list[float]) -> None:
        self.name, self.values = name, np.array(values, float)

    def __len__(self) -> int:
        return len(self.values)

    def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        return {self.name: ratio(counts @ self.values, counts.sum(axis=1))}


def test_an_interval_is_that_of_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(4).normal(3, 2, 60)
    found = intervals(resampled(Mean("mean", values.tolist())))["mean"]
    reference = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1)
    expected = reference.confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.06)


def test_without_samples_there_is_no_interval_and_with_one_it_has_no_width() -> None:
    none, one = resampled(Mean("mean", [])), resampled(Mean("mean", [2.5]))
    assert (points(none), intervals(none)) == ({"mean": None}, {"mean": None})
    assert (points(one), intervals(one)) == ({"mean": 2.5}, {"mean": (2.5, 2.5)})


@pytest.mark.parametrize("samples", [3, 700])
def test_the_samples_as_they_are_come_first_and_draws_in_blocks_are_those_at_once(samples: int) -> None:
    sizes = []

    class Watched(Mean):
        def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
            sizes.append(counts.size)
            return super().metrics(counts)

    found = resampled(Watched("mean", list(range(samples))))
    assert max(sizes) <= BLOCK
    assert (len(sizes) == 1) == (samples == 3), "few samples are drawn at once"
    statistics = Mean("mean", list(range(samples)))
    assert points(found) == point(statistics) == {"mean": (samples - 1) / 2}
    assert found["mean"][1:] == pytest.approx(statistics.metrics(draws(samples))["mean"])


def test_joined_statistics_have_the_metrics_of_all_in_the_same_draws() -> None:
    both = Joined(Mean("a", [1, 2]), Mean("b", [3, 5]))
    found = both.metrics(np.array([[1.0, 1.0], [2.0, 0.0]]))
    assert len(both) == 2
    assert {name: values.tolist() for name, values in found.items()} == {"a": [1.5, 1.0], "b": [4.0, 3.0]}


@given(samples=st.integers(1, 40), resamples=st.integers(1, 20), seed=st.integers(0, 100))
def test_each_draw_has_as_many_samples_as_there_are(samples: int, resamples: int, seed: int) -> None:
    counts = draws(samples, resamples, seed)
    assert counts.shape == (resamples, samples)
    assert (counts.sum(axis=1) == samples).all()
    assert (counts == draws(samples, resamples, seed)).all()


def test_an_interval_leaves_out_what_is_not_defined() -> None:
    assert interval(np.array([np.nan, np.nan])) is None
    assert interval(np.array([np.nan, 2.0, 2.0])) == (2.0, 2.0)
    assert interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))


def test_the_mean_of_nothing_is_not_defined() -> None:
    values = [np.array([1.0, np.nan]), np.array([3.0, np.nan])]
    assert mean_of_defined(values, 2) == pytest.approx([2.0, np.nan], nan_ok=True)
    assert np.isnan(mean_of_defined([], 2)).all()


def test_samples_without_labels_are_drawn_and_do_not_count() -> None:
    class Total:
        def __len__(self) -> int:
            return 2

        def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
            return {"total": counts @ np.array([1.0, 10.0])}

    found = Among([True, False, True], Total()).metrics(np.array([[1.0, 5.0, 2.0]]))
    assert found["total"].tolist() == [21.0]


def test_the_area_below_a_roc_is_the_chance_that_a_positive_ranks_higher() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.beta(4, 2, 4000), rng.beta(2, 4, 4000)
    labels = np.arange(8000) < 4000
    curve = roc(chance_histogram(np.concatenate([positive, negative]), labels))
    assert curve is not None
    assert curve.area == pytest.approx((positive[:, None] > negative).mean(), abs=0.005)
    assert (curve.false_positive[-1], curve.true_positive[-1]) == (1.0, 1.0)
    assert roc(chance_histogram(positive, np.ones(4000, bool))) is None


@pytest.mark.parametrize(
    ("metric", "sign"),
    [("trajectory/FDE", -1), ("trajectory/minADE5", -1), ("trajectory/miss_rate10", -1), ("detection/ECE", -1),
     ("lanes/FP", -1), ("lanes/F1", 1), ("detection/AP50", 1), ("detection/AP/FP", 1), ("segmentation/mIoU", 1)],
)  # fmt: skip
def test_a_metrics_name_says_which_way_is_better(metric: str, sign: float) -> None:
    assert direction(metric) == sign
    assert gain(metric, 2.0, 1.0) == sign
