import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from trainer.export.latency import measure, timing

ONNX = "trainer.export.onnx"


@pytest.fixture(scope="module")
def double(tmp_path_factory) -> Path:
    """An ONNX file that gives twice what it takes, N×3."""
    shape = ["batch", 3]
    given, found = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "y"))
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "x"], ["y"])], "double", [given], [found])
    path = tmp_path_factory.mktemp("onnx") / "double.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_a_form_is_run_on_one_sample_and_on_all(double):
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    before = os.sched_getaffinity(0)
    measured, outputs = measure(ONNX, double, [values])
    assert os.sched_getaffinity(0) == before
    assert [output.tolist() for output in outputs] == [(2 * values[:1]).tolist(), (2 * values).tolist()]
    assert (measured.latency.batch, measured.throughput.batch) == (1, 4)
    for one in (measured.latency, measured.throughput):
        assert 0 < one.p50_ms <= one.p95_ms <= one.p99_ms
        assert one.samples_per_second > 0
        assert one.repeats >= 10
        assert one.pinned


@pytest.mark.slow
def test_peak_memory_is_the_measured_processs_own(double):
    held = np.ones(100 << 20, np.float32)  # 400 MB that are resident here while the form is measured
    measured, _ = measure(ONNX, double, [np.zeros((2, 3), np.float32)])
    assert held.nbytes > 2 * measured.throughput.peak_memory_bytes
    assert 10 << 20 < measured.latency.peak_memory_bytes <= measured.throughput.peak_memory_bytes


def test_a_form_that_cannot_be_run_ends_the_measurement(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(subprocess.CalledProcessError):
        measure(ONNX, tmp_path / "model.onnx", [np.zeros((2, 3), np.float32)])


def test_percentiles_and_pace_are_those_of_the_passes():
    figures = timing([0.001 * number for number in range(1, 101)], 4, None, False)
    assert (figures.p50_ms, figures.p95_ms, figures.p99_ms) == pytest.approx((50.5, 95.05, 99.01))
    assert figures.samples_per_second == pytest.approx(4 * 100 / 5.05)
    assert (figures.repeats, figures.peak_memory_bytes, figures.pinned) == (100, None, False)
