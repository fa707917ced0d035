import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from trainer.metrics.iou import IouStatistics, confusion_matrix
from trainer.metrics.statistics import point


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 6))
def test_iou_equals_scikit_learns_jaccard(seed, classes):
    rng = np.random.default_rng(seed)
    truth, found = (rng.integers(0, classes, (9, 13)).astype(np.uint8) for _ in range(2))
    metrics = point(IouStatistics([confusion_matrix(truth, found, classes)], [str(c) for c in range(classes)]))
    present = sorted(set(truth.ravel()) | set(found.ravel()))
    expected = jaccard_score(truth.ravel(), found.ravel(), average=None, labels=present)
    assert metrics["mIoU"] == pytest.approx(float(np.mean(expected)))
    assert [metrics[f"IoU/{c}"] for c in present] == pytest.approx(expected.tolist())


def test_void_pixels_do_not_count():
    truth = np.array([[0, 255, 1]], np.uint8)
    assert confusion_matrix(truth, np.array([[0, 1, 1]], np.uint8), 2).tolist() == [[1, 0], [0, 1]]


def test_an_absent_class_has_no_iou_and_does_not_lower_the_mean():
    metrics = point(IouStatistics([np.array([[4, 0, 0], [0, 4, 0], [0, 0, 0]])], ["a", "b", "c"]))
    assert metrics["IoU/c"] is None
    assert metrics["mIoU"] == 1.0


def test_shapes_that_differ_and_values_that_are_no_class_are_errors():
    with pytest.raises(ValueError, match="shape"):
        confusion_matrix(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 2)
    with pytest.raises(ValueError, match="predicted value 7"):
        confusion_matrix(np.zeros((2, 2), np.uint8), np.full((2, 2), 7, np.uint8), 2)
