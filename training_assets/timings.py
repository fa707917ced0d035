"""How fast, large and exact each form of a model is, and what int8 costs: the same tables wherever people look."""

from trainer.contract.results import Exports, Measured

Value = str | float | int | None
Tabular = tuple[tuple[str, ...], list[tuple[Value, ...]]]
"""Header and rows."""


def timing_table(exports: Exports) -> Tabular:
    """Each form, eager first. Without another word a time is of one sample; the peak is that of the whole process."""
    many = f"batch {exports.eager.throughput.batch}"
    header = (
        "file", "p50 ms", "p95 ms", "p99 ms", f"{many}: p50 ms", f"{many}: samples/s", f"{many}: peak MB",
        "max relative error", "bytes",
    )  # fmt: skip
    rows: list[tuple[Value, ...]] = [("eager", *_figures(exports.eager), None, None)]
    rows += [(file.name, *_figures(file), file.max_relative_error, file.bytes) for file in exports.files]
    return header, rows


def _figures(measured: Measured) -> tuple[Value, ...]:
    one, many = measured.latency, measured.throughput
    peak = None if many.peak_memory_bytes is None else many.peak_memory_bytes / 1e6
    return one.p50_ms, one.p95_ms, one.p99_ms, many.p50_ms, many.samples_per_second, peak


def int8_table(exports: Exports) -> Tabular:
    """The headline metrics of eager and of the int8 file; no rows where it was not judged."""
    losses = {} if exports.quantization is None else exports.quantization.losses
    rows: list[tuple[Value, ...]] = [(name, one.eager, one.quantized, one.loss) for name, one in losses.items()]
    return ("metric", "eager", "int8", "loss"), rows


def int8_note(exports: Exports) -> str:
    """What the table is of, or why there is none."""
    if exports.quantization is None:
        return "There is no int8 file: nothing was given to calibrate it on."
    if not exports.quantization.losses:
        return f"{exports.quantization.file} was not judged: val has no samples."
    return (
        f"{exports.quantization.file} beside eager on {exports.quantization.judged_samples} samples of val;"
        " above zero, int8 loses."
    )
