"""One export of four tasks with data is shared by most tests here, one without camera and data by the others."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from torch.utils.data import default_collate

from trainer.contract.errors import ContractError
from trainer.contract.files import sha256_of
from trainer.contract.results import Exports
from trainer.contract.train_config import TrainConfig
from trainer.data.loader import TrainingSamples, open_data, single_threaded
from trainer.data.staging import data_directory
from trainer.evaluation.model import load_checkpoint
from trainer.export import onnx as onnx_format
from trainer.export import quantize
from trainer.export.export import FORMATS, export, relative_error
from trainer.export.metric_loss import metric_loss
from trainer.export.source import Source
from trainer.models.hydranet import HydraNet, of_task
from trainer.tasks import build_tasks, example_inputs

BATCH = 3
TRACKS = {"trajectory": {"options": {"observed": 4, "predicted": 6, "max_agents": 3, "hidden": 16}}}


def quiet(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def four_tasks(recipe: Path) -> TrainConfig:
    value = yaml.safe_load(recipe.read_text())
    value["tasks"] |= {"lanes": {"options": {"slots": 2}}, **TRACKS}
    value["data"]["cache_mb"] = 0
    return TrainConfig.model_validate(value)


@pytest.fixture(scope="module")
def trained(four_tasks: TrainConfig, delivery: Path, save_checkpoint, tmp_path_factory) -> Path:
    """Has learned what ``delivery`` has labels for, which are two of its four tasks."""
    torch.manual_seed(0)
    single_threaded()
    tasks = build_tasks(four_tasks.tasks)
    reader = open_data(data_directory(delivery, tmp_path_factory.mktemp("staged"), quiet)).readers["train"]
    samples = TrainingSamples(reader, four_tasks.data, {task.name: task.targets for task in tasks}, 0)
    model = HydraNet(four_tasks.model, tasks).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(60):
        batch = default_collate([samples[step, (8 * step + place) % len(reader)] for place in range(8)])
        outputs = model(batch)
        loss = sum(task.loss(of_task(outputs, task.name), of_task(batch, task.name)) for task in tasks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return save_checkpoint(four_tasks, model)


@pytest.fixture(scope="module")
def package(trained: Path, delivery: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("package")
    (out / "model.plan").write_text("an earlier export's")
    export(trained, out, quiet, delivery, BATCH)
    return out


@pytest.fixture(scope="module")
def exports(package: Path) -> Exports:
    return Exports.model_validate_json((package / "exports.json").read_bytes())


@pytest.fixture(scope="module")
def tracks_alone(save_checkpoint, tmp_path_factory) -> tuple[Path, Path, list[str]]:
    """A checkpoint that sees no image, its package, and what its export said."""
    value = {
        "name": "walkers",
        "project": "tests",
        "data": {"image_size": None},
        "tasks": TRACKS,
        "training": {"monitor": "trajectory/ADE"},
    }
    torch.manual_seed(0)
    config = TrainConfig.model_validate(value)
    saved = save_checkpoint(config, HydraNet(config.model, build_tasks(config.tasks), camera=False))
    out, said = tmp_path_factory.mktemp("tracks"), []
    export(saved, out, said.append, batch=BATCH)
    return saved, out, said


def errors(checkpoint_path: Path, package: Path, batches: tuple[int, ...]) -> dict[tuple[str, int], float]:
    """The relative error of every float file beside eager, in batches that it was not written with."""
    found, measured = load_checkpoint(checkpoint_path), {}
    for batch in batches:
        shapes = example_inputs(found.config.data, found.tasks, batch)
        inputs = {name: torch.rand(tensor.shape) * (255 if name == "image" else 2) for name, tensor in shapes.items()}
        with torch.inference_mode():
            expected = [value.numpy() for value in found.model(inputs).values()]
        for name, form in FORMATS.items():
            outputs = form.load(package / form.FILE)([inputs[name].numpy() for name in found.model.inputs])
            assert [output.shape for output in outputs] == [value.shape for value in expected]
            measured[name, batch] = relative_error(outputs, expected)
    return measured


@pytest.mark.slow
def test_every_form_is_in_the_summary_with_its_figures(package, exports):
    names = ["model.onnx", "model.pt2", "model.torchscript.pt", "model.int8.onnx"]
    assert [file.name for file in exports.files] == names
    assert set(exports.package) | {"exports.json"} == {path.name for path in package.iterdir()}
    for file in exports.files:
        assert file.bytes == (package / file.name).stat().st_size
        assert file.sha256 == sha256_of(package / file.name)
    assert all(file.max_relative_error < 1e-4 for file in exports.files[:3])
    for measured in (exports.eager, *exports.files):
        assert (measured.latency.batch, measured.throughput.batch) == (1, BATCH)
        for one in (measured.latency, measured.throughput):
            assert 0 < one.p50_ms <= one.p95_ms <= one.p99_ms
    onnx_file, torchscript = exports.files[0], exports.files[2]
    assert onnx_file.throughput.peak_memory_bytes < torchscript.throughput.peak_memory_bytes  # it needs no torch


@pytest.mark.slow
def test_every_float_file_takes_batches_of_any_size(trained, package):
    found = errors(trained, package, (1, 2, 5))
    assert len(found) == 9
    assert max(found.values()) < 1e-4


@pytest.mark.slow
def test_a_recipe_without_a_camera_is_exported_and_takes_batches_of_any_size(tracks_alone):
    saved, package, _ = tracks_alone
    exports = Exports.model_validate_json((package / "exports.json").read_bytes())
    assert list(exports.inputs) == [f"trajectory.{name}" for name in ("past", "pose", "here", "at")]
    assert exports.inputs["trajectory.past"] == (1, 3, 4, 2)
    assert exports.flops > 0
    assert max(errors(saved, package, (1, 2, 5)).values()) < 1e-4


@pytest.mark.slow
def test_a_network_without_a_camera_is_quantised_too(tracks_alone):
    saved, package, _ = tracks_alone
    found = load_checkpoint(saved)
    given = {name: torch.rand(32, *value.shape[1:]) for name, value in found.tasks[0].example(1).items()}
    samples = [{f"trajectory.{name}": value[place] for name, value in given.items()} for place in range(32)]
    quantize.write(Source(found.model, {}, samples), package / quantize.FILE)
    arrays = [given[name].numpy() for name in found.tasks[0].inputs]
    (paths, _), (quantized, _) = (onnx_format.load(package / name)(arrays) for name in ("model.onnx", quantize.FILE))
    assert paths.shape == quantized.shape == (32, 3, 1, 6, 2)
    assert 0 < np.abs(paths - quantized).max() < 0.05 * np.abs(paths).max()
    (package / quantize.FILE).unlink()


@pytest.mark.slow
def test_without_data_there_is_no_int8_file_and_the_export_says_so(tracks_alone):
    _, package, said = tracks_alone
    assert "no model.int8.onnx: without --data there are no samples to calibrate it on" in said
    assert not (package / "model.int8.onnx").exists()
    assert Exports.model_validate_json((package / "exports.json").read_bytes()).quantization is None


@pytest.mark.slow
def test_the_onnx_file_is_one_file_and_names_its_inputs_outputs_and_batch(package, exports):
    graph = onnx.load(package / "model.onnx", load_external_data=False).graph
    assert not list(package.glob("*.data"))
    assert [one.name for one in graph.input] == list(exports.inputs)
    assert [one.name for one in graph.output] == list(exports.outputs)
    assert {one.type.tensor_type.shape.dim[0].dim_param for one in (*graph.input, *graph.output)} == {"batch"}
    assert exports.outputs[:3] == ("detection.heat", "detection.box", "segmentation.logits")


@pytest.mark.slow
def test_the_int8_file_holds_int8_weights_per_channel_and_runs_without_torch(package, exports):
    model = onnx.load(package / "model.int8.onnx")
    weights = {one.name: one for one in model.graph.initializer}
    quantized = [node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"]
    kernels = [weights[name] for name in quantized if name in weights and len(weights[name].dims) == 4]
    assert {one.data_type for one in kernels} == {onnx.TensorProto.INT8}
    assert len(kernels) > 10
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy, onnxruntime\n"
        "session = onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])\n"
        "given = {one.name: numpy.zeros([2, *one.shape[1:]], numpy.float32) for one in session.get_inputs()}\n"
        "print(*(len(output) for output in session.run(None, given)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, package / "model.int8.onnx"], capture_output=True, text=True)
    assert done.stdout.split() == ["2"] * len(exports.outputs), done.stderr


@pytest.mark.slow
def test_paths_in_metres_keep_their_precision_in_the_int8_file(trained, package, exports):
    found = load_checkpoint(trained)
    shapes = example_inputs(found.config.data, found.tasks, 4)
    given = [torch.rand(shapes[name].shape).numpy() * (255 if name == "image" else 30) for name in exports.inputs]
    float_file, int8_file = (
        dict(zip(exports.outputs, load(package / name)(given), strict=True))
        for load, name in ((onnx_format.load, "model.onnx"), (quantize.load, quantize.FILE))
    )
    errors = {name: relative_error([int8_file[name]], [float_file[name]]) for name in exports.outputs}
    assert errors["trajectory.paths"] < 0.01
    assert errors["segmentation.logits"] > 0.01, "what comes from the image alone is in int8"


@pytest.mark.slow
def test_int8_is_judged_by_the_tasks_own_metrics_and_loses_little_of_what_was_learned(exports):
    found = exports.quantization
    assert (found.file, found.calibration_samples, found.judged_samples) == ("model.int8.onnx", 48, 8)
    learned = found.losses["segmentation/mIoU"]
    assert learned.eager > 0.8
    assert learned.loss == pytest.approx(learned.eager - learned.quantized)
    assert abs(learned.loss) < 0.05
    assert found.losses["lanes/F1"].loss is None  # the delivery has no lanes
    assert list(found.losses)[-2:] == ["trajectory/ADE", "trajectory/FDE"]


@pytest.mark.slow
def test_nothing_of_an_earlier_export_is_left(package, exports):
    assert exports.tensorrt.plan is None
    assert not (package / "model.plan").exists()


def test_an_export_that_ends_early_leaves_no_summary_of_an_earlier_one(checkpoint, tmp_path, monkeypatch):
    class Killed:
        __name__, FILE = "killed", "model.onnx"

        def write(self, source, path):
            path.write_text("half a model")
            raise KeyboardInterrupt

    monkeypatch.setattr("trainer.export.export.measure", lambda *_: (None, []))
    monkeypatch.setattr("trainer.export.export._figures", str)
    monkeypatch.setattr("trainer.export.export.FORMATS", {"onnx": Killed()})
    (tmp_path / "exports.json").write_text("an earlier export's")
    with pytest.raises(KeyboardInterrupt):
        export(checkpoint, tmp_path, quiet)
    assert (tmp_path / "model.onnx").read_text() == "half a model"
    assert not (tmp_path / "exports.json").exists()


def test_data_whose_classes_mean_other_things_is_refused_before_anything_is_written(checkpoint, delivery, tmp_path):
    other = shutil.copytree(delivery, tmp_path / "delivery")
    text = (delivery / "slices.yaml").read_text()
    (other / "slices.yaml").write_text(text.replace("- road\n", "- pavement\n"))
    with pytest.raises(ContractError, match="pavement"):
        export(checkpoint, tmp_path / "out", quiet, other)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    (tmp_path / "best.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ContractError, match=r"best\.pt"):
        export(tmp_path / "best.pt", tmp_path / "out", quiet)


def test_a_different_output_counts_as_an_error():
    eager = [np.array([1.0, 2.0]), np.array([10.0])]
    assert relative_error(eager, eager) == 0
    assert relative_error([np.array([1.0, 2.2]), np.array([10.0])], eager) == pytest.approx(0.1)
    assert relative_error([np.array([1.0, np.nan]), np.array([10.0])], eager) == 1e30


def test_a_loss_is_above_zero_where_int8_is_worse_whichever_way_the_metric_goes():
    assert metric_loss("segmentation/mIoU", 0.8, 0.7).loss == pytest.approx(0.1)
    assert metric_loss("trajectory/ADE", 0.4, 0.5).loss == pytest.approx(0.1)
    assert metric_loss("trajectory/ADE", 0.4, None).loss is None
