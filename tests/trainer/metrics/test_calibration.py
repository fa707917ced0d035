import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from trainer.contract.metrics import direction
from trainer.metrics.calibration import CalibrationStatistics, ReliabilityPoint, binned, reliability
from trainer.metrics.statistics import draws, point


def predictions(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of 4 classes and true classes."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(4, rng.uniform(0.1, 2)), count), rng.integers(0, 4, count)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), samples=st.integers(1, 5))
def test_ece_equals_torchmetrics_however_the_predictions_are_spread_over_samples(seed: int, samples: int) -> None:
    probabilities, truth = predictions(seed, 200)
    parts = np.array_split(np.arange(200), samples)
    confidences, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    bins = [binned(confidences[part], correct[part]) for part in parts]
    expected = multiclass_calibration_error(torch.from_numpy(probabilities), torch.from_numpy(truth), 4, n_bins=15)
    assert point(CalibrationStatistics(bins))["ECE"] == pytest.approx(float(expected), abs=1e-6)


def test_a_draw_is_scored_as_if_its_samples_were_written_down() -> None:
    cases = [predictions(seed, 20) for seed in range(4)]
    bins = [binned(p.max(axis=1), p.argmax(axis=1) == t) for p, t in cases]
    counts = draws(4, 10)
    found = CalibrationStatistics(bins).metrics(counts)["ECE"]
    for row, drawn in enumerate(counts):
        again = [one for one, count in zip(bins, drawn, strict=True) for _ in range(int(count))]
        assert found[row] == pytest.approx(point(CalibrationStatistics(again))["ECE"])


def test_the_edges_of_the_bins_belong_to_the_lower_ones() -> None:
    bins = binned(np.array([0.0, 1 / 15, 1.0]), np.array([True, False, True]))
    assert bins[0].tolist() == [2, *[0] * 13, 1]


def test_the_reliability_diagram_has_a_point_for_each_bin_that_holds_predictions() -> None:
    bins = [binned(np.array([0.5, 0.95]), np.array([True, False])), binned(np.array([0.97]), np.array([True]))]
    low, high = reliability(bins)
    assert low == ReliabilityPoint(1, 0.5, 1.0)
    assert (high.predictions, high.confidence, high.accuracy) == (2, pytest.approx(0.96), 0.5)
    assert reliability([]) == []


def test_without_predictions_nothing_is_defined_and_a_lower_error_is_better() -> None:
    assert point(CalibrationStatistics([])) == {"ECE": None}
    assert point(CalibrationStatistics([binned(np.zeros(0), np.zeros(0, bool))])) == {"ECE": None}
    assert direction("segmentation/ECE") < 0
