"""``export``: each form is written, run beside eager, and measured."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.utils.data import default_collate

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of, write_text
from trainer.contract.results import EXPORTS_FILE, ExportedFile, Exports, Measured, Quantization
from trainer.data.loader import DataSet, EvaluationSamples, open_data, single_threaded
from trainer.data.order import spread
from trainer.data.staging import data_directory
from trainer.engine.telemetry.flops import forward_flops
from trainer.evaluation.model import Checkpoint, load_checkpoint
from trainer.evaluation.report import box_categories, misfits
from trainer.export import eager, exported_program, onnx, quantize, tensorrt, torchscript
from trainer.export.base import Format
from trainer.export.latency import measure
from trainer.export.metric_loss import metric_losses
from trainer.export.passes import Arrays
from trainer.export.source import Source
from trainer.models.hydranet import IMAGE
from trainer.tasks import example_inputs
from trainer.tasks.base import Tensors
from trainer.terminal.progress import counted

FORMATS: dict[str, Format] = {"onnx": onnx, "exported_program": exported_program, "torchscript": torchscript}
CALIBRATED_FORMATS: dict[str, Format] = {"onnx_int8": quantize}
BATCH = 8
CALIBRATION_SAMPLES, JUDGED_SAMPLES = 64, 200

Print = Callable[[str], None]


def export(checkpoint_path: Path, out: Path, say: Print, data: Path | None = None, batch: int = BATCH) -> Exports:
    """Write every form of the checkpoint into ``out``, with ``exports.json`` last.

    The exported models take the image as N×3×H×W float32 RGB in 0…255 (normalisation is inside) and the tasks' own
    inputs as float32, for any N; they are measured with one sample and with ``batch``. ``data`` is a delivery or a data
    directory: int8 is calibrated on its train split and judged on its val split. Without it there is no int8 file.

    Raises:
        ContractError: no such checkpoint or data, no samples of train, or its labels mean another thing than the
            checkpoint's.
    """
    single_threaded()
    checkpoint = load_checkpoint(checkpoint_path)
    with TemporaryDirectory() as work:
        data_set = None if data is None else _opened(checkpoint, data, Path(work), say)
        source = _source(checkpoint, data_set, batch)
        _clear(out)
        measured, expected = measure(eager.__name__, checkpoint_path, source.arrays)
        say(f"eager: {_figures(measured)}")
        formats = FORMATS if data_set is None else FORMATS | CALIBRATED_FORMATS
        files = list(_exported_all(formats, source, out, expected, say))
        quantization = None if data_set is None else _quantization(checkpoint, source, data_set, out)
    say(_said(quantization))
    shapes = {name: (1, *tensor.shape[1:]) for name, tensor in source.given.items()}
    plan = tensorrt.make_plan(shapes, batch, out)
    say(f"TensorRT: {plan.note}")
    exports = Exports(
        checkpoint_sha256=checkpoint.sha256,
        inputs=shapes,
        outputs=source.outputs,
        parameters=sum(parameter.numel() for parameter in checkpoint.model.parameters()),
        flops=forward_flops(checkpoint.config, checkpoint.tasks, 1),
        eager=measured,
        files=tuple(files),
        quantization=quantization,
        tensorrt=plan,
    )
    write_text(out / EXPORTS_FILE, exports.model_dump_json(indent=2) + "\n")
    return exports


def _opened(checkpoint: Checkpoint, data: Path, work: Path, say: Print) -> DataSet:
    found = open_data(data_directory(data, work, say), ("train", "val"))
    problems = misfits(checkpoint.config, found.slices, box_categories(found))
    if not len(found.readers["train"]):
        problems.append(Problem(str(data), "no samples", "at least one sample to calibrate int8 on", field="train"))
    if problems:
        raise ContractError(f"a checkpoint of {checkpoint.config.name} cannot be quantised with this data", problems)
    return found


def _source(checkpoint: Checkpoint, data: DataSet | None, batch: int) -> Source:
    """With samples of train where there is data, else with random ones."""
    if data is None:
        return Source(checkpoint.model, _random(checkpoint, batch), None)
    inputs = {task.name: task.observed for task in checkpoint.tasks}
    samples = EvaluationSamples(data.readers["train"], checkpoint.config.data, inputs)
    calibration = _Spread(samples, spread(len(samples), CALIBRATION_SAMPLES))
    given = default_collate(list(islice(cycle(calibration), batch)))
    return Source(checkpoint.model, {name: value.float() for name, value in given.items()}, calibration)


def _random(checkpoint: Checkpoint, batch: int) -> Tensors:
    generator = torch.Generator().manual_seed(checkpoint.config.seed)
    shapes = example_inputs(checkpoint.config.data, checkpoint.tasks, batch)
    return {
        name: torch.rand(value.shape, generator=generator) * (255 if name == IMAGE else 1)
        for name, value in shapes.items()
    }


@dataclass(frozen=True)
class _Spread:
    """What the network takes of some samples; read anew each time, they may be many."""

    samples: EvaluationSamples
    indices: Sequence[int]

    def __iter__(self) -> Iterator[Tensors]:
        return (self.samples[index][1] for index in self.indices)


def _clear(out: Path) -> None:
    """Nothing of an earlier export stays: it may have been of another checkpoint.

    The summary goes first and comes last: a killed export leaves none, not an earlier one beside other models.
    """
    out.mkdir(parents=True, exist_ok=True)
    formats = [*FORMATS.values(), *CALIBRATED_FORMATS.values()]
    for name in (EXPORTS_FILE, *(form.FILE for form in formats), tensorrt.FILE, tensorrt.COMMAND_FILE):
        (out / name).unlink(missing_ok=True)


def _exported_all(
    formats: dict[str, Format], source: Source, out: Path, expected: Arrays, say: Print
) -> Iterator[ExportedFile]:
    progress = counted("exported", "formats")
    for done, (kind, form) in enumerate(formats.items(), start=1):
        yield _exported(kind, form, source, out, expected, say)
        progress(done, len(formats))


def _exported(kind: str, form: Format, source: Source, out: Path, expected: Arrays, say: Print) -> ExportedFile:
    began, path = time.perf_counter(), out / form.FILE
    form.write(source, path)
    measured, outputs = measure(form.__name__, path, source.arrays)
    file = ExportedFile(
        name=path.name,
        format=kind,
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
        max_relative_error=relative_error(outputs, expected),
        latency=measured.latency,
        throughput=measured.throughput,
    )
    took = time.perf_counter() - began
    say(f"{file.name}: error {file.max_relative_error:.1e}, {_figures(measured)} ({took:.1f} s)")
    return file


def _figures(measured: Measured) -> str:
    one, many = measured.latency, measured.throughput
    return f"p95 {one.p95_ms:.1f} ms, {many.samples_per_second:.1f} samples/s in batches of {many.batch}"


def relative_error(found: Arrays, expected: Arrays) -> float:
    """The largest ``|found - expected|`` over the largest ``|expected|``, the worst output; at most 1e30."""
    errors = [
        float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-12)) for a, b in zip(found, expected, strict=True)
    ]
    return 1e30 if any(math.isnan(error) for error in errors) else min(max(errors), 1e30)


def _quantization(checkpoint: Checkpoint, source: Source, data: DataSet, out: Path) -> Quantization:
    reader = data.readers["val"]
    judged = spread(len(reader), JUDGED_SAMPLES)
    losses = metric_losses(checkpoint, quantize.load(out / quantize.FILE), source.outputs, reader, judged)
    return Quantization(
        file=quantize.FILE,
        calibration_samples=len(spread(len(data.readers["train"]), CALIBRATION_SAMPLES)),
        judged_samples=len(judged),
        losses=losses if judged else {},
    )


def _said(quantization: Quantization | None) -> str:
    if quantization is None:
        return f"no {quantize.FILE}: without --data there are no samples to calibrate it on"
    losses = ", ".join(
        f"{name} {'undefined' if one.loss is None else f'{one.loss:+.4f}'}" for name, one in quantization.losses.items()
    )
    return f"{quantization.file} loses on {quantization.judged_samples} samples of val: {losses or 'not judged'}"
