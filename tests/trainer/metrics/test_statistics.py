import numpy as np
import pytest
from scipy import stats

from trainer.metrics.statistics import Joined, intervals, ratio


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
    found = intervals(Mean("mean", values.tolist()))["mean"]
    reference = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1)
    expected = reference.confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.06)


def test_without_samples_there_is_no_interval_and_with_one_it_has_no_width() -> None:
    assert intervals(Mean("mean", [])) == {"mean": None}
    assert intervals(Mean("mean", [2.5])) == {"mean": (2.5, 2.5)}


def test_joined_statistics_have_the_metrics_of_all_in_the_same_draws() -> None:
    both = Joined(Mean("a", [1, 2]), Mean("b", [3, 5]))
    found = both.metrics(np.array([[1.0, 1.0], [2.0, 0.0]]))
    assert len(both) == 2
    assert {name: values.tolist() for name, values in found.items()} == {"a": [1.5, 1.0], "b": [4.0, 3.0]}
