"""``export``: each form is written, run, compared with eager, and timed."""

import logging
import math
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from trainer.contract.files import sha256_of, write_text
from trainer.contract.results import ExportedFile, Exports, Latency
from trainer.data.loader import single_threaded
from trainer.evaluation.model import load_checkpoint
from trainer.models.hydranet import IMAGE
from trainer.tasks import example_inputs

EXPORTS_FILE = "exports.json"
THREADS = 1
WARM_UP, REPEATS = 5, 40

Arrays = list[np.ndarray]
Run = Callable[[Arrays], Arrays]


class Positional(nn.Module):
    """A model that takes its inputs and gives its outputs as tuples in the order of these names: as exporters want."""

    def __init__(self, model: nn.Module, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, tuple(inputs), tuple(outputs)

    def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.model(dict(zip(self.inputs, given, strict=True)))
        return tuple(found[name] for name in self.outputs)


def export(checkpoint_path: Path, out: Path, say: Callable[[str], None]) -> Exports:
    """Write every form of the checkpoint into ``out``, with ``exports.json`` last.

    The exported models take the image as N×3×H×W float32 RGB in 0…255 (normalisation is inside) and the tasks' own
    inputs, with batch 1.

    Raises:
        ContractError: no such checkpoint.
    """
    single_threaded()
    checkpoint = load_checkpoint(checkpoint_path)
    given = example_inputs(checkpoint.config.data, checkpoint.tasks, 1)
    if IMAGE in given:
        generator = torch.Generator().manual_seed(checkpoint.config.seed)
        given[IMAGE] = torch.randint(0, 256, given[IMAGE].shape, generator=generator).float()
    with torch.inference_mode():
        names = list(checkpoint.model(given))
    model = Positional(checkpoint.model, checkpoint.model.inputs, names).eval()
    tensors = tuple(given[name] for name in model.inputs)
    arrays = [tensor.numpy() for tensor in tensors]
    eager = _eager(model)
    expected = eager(arrays)
    out.mkdir(parents=True, exist_ok=True)
    # The summary goes first and comes last: a killed export leaves none, not an earlier one beside other models.
    (out / EXPORTS_FILE).unlink(missing_ok=True)
    files = []
    for name, write in WRITERS.items():
        began = time.perf_counter()
        run = write(model, tensors, out / name)
        files.append(_described(out / name, write.__name__.strip("_"), run, arrays, expected))
        say(f"{name}: error {files[-1].max_relative_error:.1e}, p95 {files[-1].latency.p95_ms:.1f} ms "
            f"({time.perf_counter() - began:.1f} s)")  # fmt: skip
    exports = Exports(
        checkpoint_sha256=checkpoint.sha256,
        inputs={name: tuple(given[name].shape) for name in model.inputs},
        outputs=tuple(names),
        eager_latency=_latency(eager, arrays),
        files=tuple(files),
    )
    write_text(out / EXPORTS_FILE, exports.model_dump_json(indent=2) + "\n")
    return exports


def _onnx(model: Positional, given: tuple[torch.Tensor, ...], path: Path) -> Run:
    import onnxruntime

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            given,
            path,
            input_names=model.inputs,
            output_names=model.outputs,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda arrays: session.run(model.outputs, dict(zip(model.inputs, arrays, strict=True)))


def _exported_program(model: Positional, given: tuple[torch.Tensor, ...], path: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(model, given), path)
        return _eager(torch.export.load(path).module())


def _torchscript(model: Positional, given: tuple[torch.Tensor, ...], path: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model, given), str(path))
        return _eager(torch.jit.load(str(path)))


WRITERS = {"model.onnx": _onnx, "model.pt2": _exported_program, "model.torchscript.pt": _torchscript}


def _eager(model: nn.Module) -> Run:
    def run(arrays: Arrays) -> Arrays:
        with torch.inference_mode():
            return [output.numpy() for output in model(*map(torch.from_numpy, arrays))]

    return run


def _described(path: Path, kind: str, run: Run, arrays: Arrays, expected: Arrays) -> ExportedFile:
    return ExportedFile(
        name=path.name,
        format=kind,
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
        max_relative_error=relative_error(run(arrays), expected),
        latency=_latency(run, arrays),
    )


def relative_error(found: Arrays, expected: Arrays) -> float:
    """The largest ``|found - expected|`` over the largest ``|expected|``, the worst output; at most 1e30."""
    errors = [
        float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-12)) for a, b in zip(found, expected, strict=True)
    ]
    return 1e30 if any(math.isnan(error) for error in errors) else min(max(errors), 1e30)


def _latency(run: Run, arrays: Arrays) -> Latency:
    for _ in range(WARM_UP):
        run(arrays)
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run(arrays)
        times.append(1000 * (time.perf_counter() - began))
    p50, p95 = np.percentile(times, [50, 95])
    return Latency(p50_ms=float(p50), p95_ms=float(p95), threads=THREADS, repeats=REPEATS)
