"""What a model must fulfil before it is released: pure functions from reports to verdicts.

The checks of the graph and the registration both ask here. A gate without rows asked for nothing and is passed.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from trainer.contract.eval_report import OVERALL, Change, EvalReport, SliceScore
from trainer.contract.metrics import direction, gain
from trainer.contract.results import ExportedFile, Exports, MetricLoss, Quantization
from trainer.contract.slices import Slice, Slices
from trainer.contract.train_config import TrainConfig

JUDGED_SPLIT = "test"
LATENCY_FORMAT = "onnx"
BY_SIZE = re.compile(r"/A[PR][sml]$")
"""COCO's scores by object size say little over a handful of objects: only a declared target makes them count."""
ROUNDING = 1e-9
Severity = Literal["block", "warn"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GateRow(_Model):
    """One comparison. ``margin`` is how far ``value`` is on the good side of ``limit``; below zero it failed.

    ``passed`` is ``None`` where nothing was decided: ``verdict`` says why.
    """

    metric: str
    slice: str = OVERALL
    value: FiniteFloat | None
    limit: FiniteFloat | None
    passed: bool | None
    verdict: str
    margin: FiniteFloat | None = None
    reference: FiniteFloat | None = Field(default=None, description="Production's value, where it is compared with.")


class GateResult(_Model):
    """One gate. A failed gate of severity ``block`` keeps a model out of the registry."""

    name: str
    passed: bool
    severity: Severity
    rows: tuple[GateRow, ...]

    @property
    def blocks(self) -> bool:
        return not self.passed and self.severity == "block"

    @property
    def failures(self) -> str:
        """Each failed comparison in words: what, where, and by how much."""
        return "; ".join(in_words(row) for row in self.rows if row.passed is False)


def all_gates(
    report: EvalReport, exports: Exports, slices: Slices, config: TrainConfig, production: str | None = None
) -> list[GateResult]:
    """Every gate of a release. ``production`` is the sha256 of the checkpoint in production, if there is one."""
    return [
        targets_met(report, slices, config),
        no_regression(report, slices, config, production),
        calibrated(report, config),
        latency_within_budget(exports, config),
        exports_match_eager(exports, config),
        quantization_loss_within_budget(exports, config),
    ]


def in_words(row: GateRow) -> str:
    """A failed comparison: ``night: pedestrian AP50 0.31, production 0.38: worse by 0.07 (allowed 0.02)``."""
    where = "" if row.slice == OVERALL else f"{row.slice}: "
    if row.value is None or row.limit is None or row.margin is None:
        return f"{where}{metric_in_words(row.metric)}: {row.verdict.removeprefix('failed: ')}"
    found = f"{where}{metric_in_words(row.metric)} {row.value:.4g}"
    if row.reference is not None:
        allowed, by = abs(row.reference - row.limit), abs(row.value - row.reference)
        return f"{found}, production {row.reference:.4g}: worse by {by:.3g} (allowed {allowed:.3g})"
    asked = "at most" if row.value > row.limit else "at least"
    return f"{found}, asked for {asked} {row.limit:.4g}: missed by {-row.margin:.3g}"


def metric_in_words(metric: str) -> str:
    """``pedestrian AP50`` of ``detection/AP50/pedestrian``, ``segmentation mIoU`` of ``segmentation/mIoU``."""
    if metric == "*":
        return "every metric"
    task, name, *of = [*metric.split("/"), ""][:3] if "/" in metric else ("", metric, "")
    return f"{of[0] or task} {name}".strip().replace("_", " ")


def targets_met(report: EvalReport, slices: Slices, config: TrainConfig) -> GateResult:
    """The absolute targets: ``release.targets`` on the whole test split, each slice's own on the slice.

    A slice's target of a task that the recipe does not have is asked of other recipes on the same data.
    """
    split = report.splits.get(JUDGED_SPLIT)
    rows = [_target(metric, split, limit) for metric, limit in config.release.targets.items()]
    for one in slices.slices:
        part = None if split is None else split.slices.get(one.name)
        rows += [_slice_target(metric, one, part, limit, config) for metric, limit in one.targets.items()]
    return _gate("targets_met", rows)


def slice_targets_met(report: EvalReport, config: TrainConfig) -> GateResult:
    """Production's targets on a mined slice, of which ``report`` has nothing else.

    As against production, a difference within noise does not fail: where the interval reaches the target nothing is
    decided, nor where the slice has nothing to measure a metric by.
    """
    score = report.splits[JUDGED_SPLIT]
    rows = [_target(metric, score, limit) for metric, limit in config.slice_targets.items()]
    return _gate("slice_targets_met", [_decided(row, score) for row in rows], "warn")


def _decided(row: GateRow, score: SliceScore) -> GateRow:
    if row.passed is not False:
        return row
    if row.value is None or row.limit is None:
        return row.model_copy(update={"passed": None, "verdict": _absence(row.metric, score, row.slice)})
    low, high = score.intervals.get(row.metric, (row.value, row.value))
    if low <= row.limit <= high:
        return row.model_copy(update={"passed": None, "verdict": f"within noise ({low:.3g}…{high:.3g})"})
    return row


def no_regression(report: EvalReport, slices: Slices, config: TrainConfig, production: str | None = None) -> GateResult:
    """No metric worse than production's by more than is allowed, on the same samples, overall and on each slice.

    A difference whose interval reaches zero is noise and does not fail, but on a safety-critical slice noise is no
    excuse. Compared are the metrics that are not of one class or object size, and those with a target. Without a
    production model there is nothing to be worse than: passed, without rows.
    """
    if production is None or production == report.checkpoint_sha256:
        return _gate("no_regression", [])
    against = report.against
    if against is None or against.checkpoint_sha256 != production:
        verdict = f"failed: not compared with {production[:12]}, which is in production now: evaluate again"
        return _gate("no_regression", [_nothing("*", verdict, passed=False)])
    if against.misfit is not None:
        return _gate("no_regression", [_nothing("*", f"production does not fit this data: {against.misfit}")])
    if JUDGED_SPLIT not in against.splits:
        return _gate("no_regression", [_nothing("*", f"failed: the report has no {JUDGED_SPLIT} split", passed=False)])
    lost = [metric for metric in against.lost.get(JUDGED_SPLIT, ()) if _is_compared(metric, config.release.targets)]
    rows = [_nothing(metric, "failed: production has this metric, the model has not", passed=False) for metric in lost]
    gone = set(config.release.protected_slices) - {one.name for one in slices.slices}
    rows += [_nothing("*", "failed: slices.yaml does not have this slice", name, passed=False) for name in sorted(gone)]
    return _gate("no_regression", [*rows, *_regressions(report, against.splits[JUDGED_SPLIT], slices, config)])


def regressions_on(name: str, found: GateResult) -> GateResult:
    """What :func:`no_regression` found on the slice ``name``, or why nothing could be compared."""
    return _gate(
        found.name, [row for row in found.rows if row.slice == name or (row.slice, row.metric) == (OVERALL, "*")]
    )


def _regressions(
    report: EvalReport, changes: Mapping[str, Mapping[str, Change]], slices: Slices, config: TrainConfig
) -> Iterator[GateRow]:
    release = config.release
    for metric, change in changes[OVERALL].items():
        if _is_compared(metric, release.targets):
            yield _regression(metric, OVERALL, change, release.allowed_regression)
    for one in slices.slices:
        samples = report.splits[JUDGED_SPLIT].slices[one.name].samples if one.name in changes else 0
        if samples < one.min_samples:
            yield _nothing("*", f"too few samples ({samples} of {one.min_samples})", one.name)
            continue
        for metric, change in changes[one.name].items():
            if _is_compared(metric, one.targets):
                yield _regression(metric, one.name, change, one.allowed_regression, strict=one.safety_critical)


def _is_compared(metric: str, targets: Iterable[str]) -> bool:
    return metric in set(targets) or general(metric)


def general(metric: str) -> bool:
    """Whether a metric is not of one class or object size."""
    return metric.count("/") == 1 and not BY_SIZE.search(metric)


def tendency(metric: str, change: Change) -> Literal["better", "worse", "within noise"]:
    """What the interval of a change says: beyond noise is what does not reach zero."""
    ends = [direction(metric) * end for end in change.interval]
    if max(ends) < 0:
        return "worse"
    return "better" if min(ends) > 0 else "within noise"


def _regression(metric: str, name: str, change: Change, allowed: float, *, strict: bool = False) -> GateRow:
    sign = direction(metric)
    better = gain(metric, change.value, change.reference)
    margin = better + allowed
    passed = margin >= -ROUNDING or (tendency(metric, change) != "worse" and not strict)
    low, high = change.interval
    verdict = "passed" if passed else "failed"
    if passed and margin < -ROUNDING:
        verdict += ", within noise"
    verdict += f" ({change.value - change.reference:+.3g} to production, {low:+.3g}…{high:+.3g})"
    limit = change.reference - sign * allowed
    return GateRow(
        metric=metric,
        slice=name,
        value=change.value,
        limit=limit,
        passed=passed,
        verdict=verdict,
        margin=margin,
        reference=change.reference,
    )


def calibrated(report: EvalReport, config: TrainConfig) -> GateResult:
    """The expected calibration error of each task on the test split within ``release.max_calibration_error``."""
    split = report.splits.get(JUDGED_SPLIT)
    limit = config.release.max_calibration_error
    found = {} if split is None else split.metrics
    rows = [
        _at_most(metric, OVERALL, value, limit)
        for metric, value in found.items()
        if metric.endswith("/ECE") and value is not None
    ]
    return _gate("calibrated", rows, "warn")


def latency_within_budget(exports: Exports, config: TrainConfig) -> GateResult:
    """ONNX Runtime's p95 of one forward pass with batch 1 within ``release.latency_p95_ms``."""
    limit = config.release.latency_p95_ms
    rows = [_at_most("latency_p95_ms", one.name, one.latency.p95_ms, limit) for one in _timed(exports)]
    missing = f"failed: no export of format {LATENCY_FORMAT} was timed"
    absent = GateRow(metric="latency_p95_ms", value=None, limit=limit, passed=False, verdict=missing)
    return _gate("latency_within_budget", rows or [absent])


def _timed(exports: Exports) -> list[ExportedFile]:
    return [one for one in exports.files if one.format == LATENCY_FORMAT]


def exports_match_eager(exports: Exports, config: TrainConfig) -> GateResult:
    """Each exported file's worst output within ``release.parity_tolerance`` of eager's; int8 is asked for its loss."""
    limit, quantized = config.release.parity_tolerance, exports.quantization and exports.quantization.file
    floats = [one for one in exports.files if one.name != quantized]
    rows = [_at_most("max_relative_error", one.name, one.max_relative_error, limit) for one in floats]
    verdict = "failed: nothing was exported"
    absent = GateRow(metric="max_relative_error", value=None, limit=limit, passed=False, verdict=verdict)
    return _gate("exports_match_eager", rows or [absent])


def quantization_loss_within_budget(exports: Exports, config: TrainConfig) -> GateResult:
    """Each headline metric of the int8 file at most ``release.max_quantization_loss`` worse than eager's, on val."""
    found, limit = exports.quantization, config.release.max_quantization_loss
    if found is None:
        return _gate("quantization_loss_within_budget", [], "warn")
    rows = [_quantization_loss(metric, found, loss, limit) for metric, loss in found.losses.items()]
    unknown = _nothing("*", "not judged: there were no samples of val", found.file)
    return _gate("quantization_loss_within_budget", rows or [unknown], "warn")


def _quantization_loss(metric: str, found: Quantization, one: MetricLoss, limit: float) -> GateRow:
    if one.loss is not None:
        return _at_most(metric, found.file, one.loss, limit)
    if one.eager is None:
        return _nothing(metric, f"not defined on these {found.judged_samples} samples", found.file)
    return _nothing(metric, "failed: eager has this metric, the int8 file has not", found.file, passed=False)


def about(gate: Callable[..., GateResult]) -> str:
    """What people read of a gate: the first line of what it says of itself."""
    return (gate.__doc__ or "").strip().splitlines()[0]


def markdown(results: Sequence[GateResult]) -> str:
    """The verdicts as Markdown tables, failed rows first."""
    return "\n\n".join(_table(result) for result in results)


def _table(result: GateResult) -> str:
    word = "passed" if result.passed else ("FAILED" if result.severity == "block" else "failed (warning)")
    title = f"**{result.name}**: {word}"
    if not result.rows:
        return f"{title} (nothing to compare)"
    lines = ["| metric | slice or file | value | limit | margin | verdict |", "| --- " * 6 + "|"]
    for row in sorted(result.rows, key=lambda row: (row.passed is not False, row.passed is not None)):
        numbers = " | ".join(
            "–" if number is None else f"{number:.4g}" for number in (row.value, row.limit, row.margin)
        )
        lines.append(f"| {row.metric} | {row.slice} | {numbers} | {row.verdict} |")
    return "\n".join([title, "", *lines])


def _gate(name: str, rows: Iterable[GateRow], severity: Severity = "block") -> GateResult:
    found = tuple(rows)
    return GateResult(name=name, passed=all(row.passed is not False for row in found), severity=severity, rows=found)


def _slice_target(metric: str, one: Slice, part: SliceScore | None, limit: float, config: TrainConfig) -> GateRow:
    """A slice with fewer than ``min_samples`` samples decides nothing."""
    task = metric.partition("/")[0]
    if task not in config.tasks:
        verdict = f"not asked: {config.name} has no task {task}"
        return GateRow(metric=metric, slice=one.name, value=None, limit=limit, passed=None, verdict=verdict)
    if part is not None and part.samples < one.min_samples:
        verdict = f"too few samples ({part.samples} of {one.min_samples})"
        value = part.metrics.get(metric)
        return GateRow(metric=metric, slice=one.name, value=value, limit=limit, passed=None, verdict=verdict)
    return _target(metric, part, limit, one.name)


def _target(metric: str, scores: SliceScore | None, limit: float, name: str = OVERALL) -> GateRow:
    value = None if scores is None else scores.metrics.get(metric)
    if scores is None or value is None:
        verdict = f"failed: {_absence(metric, scores, name)}"
        return GateRow(metric=metric, slice=name, value=None, limit=limit, passed=False, verdict=verdict)
    return _judged(metric, name, value, limit, gain(metric, value, limit))


def _nothing(metric: str, verdict: str, name: str = OVERALL, *, passed: bool | None = None) -> GateRow:
    return GateRow(metric=metric, slice=name, value=None, limit=None, passed=passed, verdict=verdict)


def _absence(metric: str, scores: SliceScore | None, name: str) -> str:
    if scores is None:
        return f"the report has no {JUDGED_SPLIT} split" if name == OVERALL else "the report does not have this slice"
    if metric not in scores.metrics:
        return "the report does not have this metric"
    return f"not defined on these {scores.samples} samples"


def _at_most(metric: str, name: str, value: float, limit: float) -> GateRow:
    return _judged(metric, name, value, limit, limit - value)


def _judged(metric: str, name: str, value: float, limit: float, margin: float) -> GateRow:
    passed = margin >= -ROUNDING
    verdict = "passed" if passed else "failed"
    return GateRow(metric=metric, slice=name, value=value, limit=limit, passed=passed, verdict=verdict, margin=margin)
