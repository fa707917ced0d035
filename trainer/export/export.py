"""``export``: each form is written, run, compared with eager, and timed."""

import logging
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from trainer.contract.files import sha256_of, write_text
from trainer.contract.results import ExportedFile, Exports, Latency
from trainer.data.loader import single_threaded
from trainer.evaluation.model import load_checkpoint

EXPORTS_FILE = "exports.json"
THREADS = 1
WARM_UP, REPEATS = 5, 40

Run = Callable[[np.ndarray], list[np.ndarray]]


class Positional(nn.Module):
    """A model whose outputs are a tuple in the order of ``names``: what the exporters can name."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.model(image)
        return tuple(outputs[name] for name in self.names)


def export(checkpoint_path: Path, out: Path, say: Callable[[str], None]) -> Exports:
    """Write every form of the checkpoint into ``out``, with ``exports.json`` last.

    The exported models take the image as N×3×H×W float32 RGB in 0…255 (normalisation is inside) with batch 1.

    Raises:
        ContractError: no such checkpoint.
    """
    single_threaded()
    checkpoint = load_checkpoint(checkpoint_path)
    height, width = checkpoint.config.data.image_size
    generator = torch.Generator().manual_seed(checkpoint.config.seed)
    image = torch.randint(0, 256, (1, 3, height, width), generator=generator).float()
    with torch.inference_mode():
        names = list(checkpoint.model(image))
    model = Positional(checkpoint.model, names).eval()
    eager = _eager(model)
    expected = eager(image.numpy())
    out.mkdir(parents=True, exist_ok=True)
    # The summary goes first and comes last: a killed export leaves none, not an earlier one beside other models.
    (out / EXPORTS_FILE).unlink(missing_ok=True)
    files = []
    for name, write in WRITERS.items():
        began = time.perf_counter()
        run = write(model, image, names, out / name)
        files.append(_described(out / name, write.__name__.strip("_"), run, image.numpy(), expected))
        say(f"{name}: error {files[-1].max_relative_error:.1e}, p95 {files[-1].latency.p95_ms:.1f} ms "
            f"({time.perf_counter() - began:.1f} s)")  # fmt: skip
    exports = Exports(
        checkpoint_sha256=checkpoint.sha256,
        inputs=tuple(image.shape),
        outputs=tuple(names),
        eager_latency=_latency(eager, image.numpy()),
        files=tuple(files),
    )
    write_text(out / EXPORTS_FILE, exports.model_dump_json(indent=2) + "\n")
    return exports


def _onnx(model: Positional, image: torch.Tensor, names: list[str], path: Path) -> Run:
    import onnxruntime

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (image,),
            path,
            input_names=["image"],
            output_names=names,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda array: session.run(names, {"image": array})


def _exported_program(model: Positional, image: torch.Tensor, names: list[str], path: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(model, (image,)), path)
        return _eager(torch.export.load(path).module())


def _torchscript(model: Positional, image: torch.Tensor, names: list[str], path: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(model, image), str(path))
        return _eager(torch.jit.load(str(path)))


WRITERS = {"model.onnx": _onnx, "model.pt2": _exported_program, "model.torchscript.pt": _torchscript}


def _eager(model: nn.Module) -> Run:
    def run(array: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [output.numpy() for output in model(torch.from_numpy(array))]

    return run


def _described(path: Path, kind: str, run: Run, image: np.ndarray, expected: list[np.ndarray]) -> ExportedFile:
    return ExportedFile(
        name=path.name,
        format=kind,
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
        max_relative_error=relative_error(run(image), expected),
        latency=_latency(run, image),
    )


def relative_error(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest ``|found - expected|`` over the largest ``|expected|``, the worst output; at most 1e30."""
    errors = [
        float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-12)) for a, b in zip(found, expected, strict=True)
    ]
    return 1e30 if any(math.isnan(error) for error in errors) else min(max(errors), 1e30)


def _latency(run: Run, image: np.ndarray) -> Latency:
    for _ in range(WARM_UP):
        run(image)
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run(image)
        times.append(1000 * (time.perf_counter() - began))
    p50, p95 = np.percentile(times, [50, 95])
    return Latency(p50_ms=float(p50), p95_ms=float(p95), threads=THREADS, repeats=REPEATS)
