import json

import numpy as np
import pytest

from trainer.contract.errors import ContractError
from trainer.contract.results import Exports
from trainer.export.export import export, relative_error

pytestmark = pytest.mark.slow


def test_every_form_gives_eagers_outputs_and_stands_in_the_summary(checkpoint, tmp_path):
    export(checkpoint, tmp_path, lambda text: None)
    exports = Exports.model_validate_json((tmp_path / "exports.json").read_bytes())
    assert [file.name for file in exports.files] == ["model.onnx", "model.pt2", "model.torchscript.pt"]
    for file in exports.files:
        assert file.bytes == (tmp_path / file.name).stat().st_size
        assert file.max_relative_error < 1e-4
        assert 0 < file.latency.p50_ms <= file.latency.p95_ms


def test_the_onnx_file_runs_without_torch_and_names_its_outputs(checkpoint, tmp_path):
    import onnxruntime

    export(checkpoint, tmp_path, lambda text: None)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert names == ["detection.heat", "detection.box", "segmentation.logits"]
    assert names == list(json.loads((tmp_path / "exports.json").read_text())["outputs"])
    assert not list(tmp_path.glob("*.data"))


def test_an_export_that_ends_early_leaves_no_summary_of_an_earlier_one(checkpoint, tmp_path):
    (tmp_path / "exports.json").write_text("an earlier export's")

    def killed(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(checkpoint, tmp_path, killed)
    assert (tmp_path / "model.onnx").exists()
    assert not (tmp_path / "exports.json").exists()


def test_a_different_output_counts_as_an_error():
    eager = [np.array([1.0, 2.0]), np.array([10.0])]
    assert relative_error(eager, eager) == 0
    assert relative_error([np.array([1.0, 2.2]), np.array([10.0])], eager) == pytest.approx(0.1)
    assert relative_error([np.array([1.0, np.nan]), np.array([10.0])], eager) == 1e30


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    (tmp_path / "best.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ContractError, match=r"best\.pt"):
        export(tmp_path / "best.pt", tmp_path / "out", lambda text: None)
