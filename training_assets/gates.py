"""What a model must fulfil before it is released: pure functions from reports to verdicts.

The checks of the graph and the registration both ask here. All metrics named ``<task>/<metric>`` are
higher-is-better. A gate without rows asked for nothing and is passed.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat

from trainer.contract.eval_report import EvalReport, SliceScore, SplitScore
from trainer.contract.results import ExportedFile, Exports
from trainer.contract.slices import Slice, Slices
from trainer.contract.train_config import TrainConfig

JUDGED_SPLIT = "test"
OVERALL = "all"
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


class GateResult(_Model):
    """One gate. A failed gate of severity ``block`` keeps a model out of the registry."""

    name: str
    passed: bool
    severity: Severity
    rows: tuple[GateRow, ...]

    @property
    def blocks(self) -> bool:
        return not self.passed and self.severity == "block"


def all_gates(
    report: EvalReport, exports: Exports, slices: Slices, config: TrainConfig, production: EvalReport | None = None
) -> list[GateResult]:
    """Every gate of a release. ``production`` is the report of the model in production, if there is one."""
    return [
        targets_met(report, slices, config),
        no_regression(report, slices, config, production),
        latency_within_budget(exports, config),
        exports_match_eager(exports, config),
    ]


def targets_met(report: EvalReport, slices: Slices, config: TrainConfig) -> GateResult:
    """The absolute targets: ``release.targets`` on the whole test split, each slice's own on the slice."""
    split = report.splits.get(JUDGED_SPLIT)
    rows = [_at_least(metric, split, limit) for metric, limit in config.release.targets.items()]
    for one in slices.slices:
        part = None if split is None else split.slices.get(one.name)
        rows += [_slice_row(metric, one, part, limit) for metric, limit in one.targets.items()]
    return _gate("targets_met", rows)


def no_regression(
    report: EvalReport, slices: Slices, config: TrainConfig, production: EvalReport | None = None
) -> GateResult:
    """No metric worse than production's by more than is allowed, overall and on each slice.

    Compared are the metrics that are not of one class or object size, and those with a target. Without a production
    model there is nothing to be worse than: passed, without rows.
    """
    if production is None:
        return _gate("no_regression", [])
    now, before = report.splits.get(JUDGED_SPLIT), production.splits.get(JUDGED_SPLIT)
    if now is None or before is None:
        whose = "this model" if now is None else "production"
        verdict = f"failed: the report of {whose} has no {JUDGED_SPLIT} split"
        return _gate("no_regression", [GateRow(metric="*", value=None, limit=None, passed=False, verdict=verdict)])
    note = "" if report.data_digest == production.data_digest else "; production was judged on other data"
    return _gate("no_regression", _with_note(_regressions(now, before, slices, config), note))


def _regressions(now: SplitScore, before: SplitScore, slices: Slices, config: TrainConfig) -> Iterator[GateRow]:
    for metric, value in _compared(before, config.release.targets):
        yield _at_least(metric, now, value - config.release.allowed_regression)
    for one in slices.slices:
        part, old = now.slices.get(one.name), before.slices.get(one.name)
        if part is None or old is None:
            verdict = "not in both reports"
            yield GateRow(metric="*", slice=one.name, value=None, limit=None, passed=None, verdict=verdict)
            continue
        for metric, value in _compared(old, one.targets):
            limit = value - one.allowed_regression
            yield _slice_row(metric, one, part, limit, fewest=min(old.samples, part.samples))


def _compared(before: SliceScore, targets: Iterable[str]) -> Iterator[tuple[str, float]]:
    declared = set(targets)
    for metric, value in before.metrics.items():
        general = metric.count("/") == 1 and not BY_SIZE.search(metric)
        if value is not None and (general or metric in declared):
            yield metric, value


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
    """Each exported file's worst output within ``release.parity_tolerance`` of eager's."""
    limit = config.release.parity_tolerance
    rows = [_at_most("max_relative_error", one.name, one.max_relative_error, limit) for one in exports.files]
    verdict = "failed: nothing was exported"
    absent = GateRow(metric="max_relative_error", value=None, limit=limit, passed=False, verdict=verdict)
    return _gate("exports_match_eager", rows or [absent])


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


def _slice_row(metric: str, one: Slice, part: SliceScore | None, limit: float, fewest: int | None = None) -> GateRow:
    """A slice with fewer than ``min_samples`` samples (in either report) decides nothing."""
    samples = fewest if fewest is not None else (part.samples if part else 0)
    if part is not None and samples < one.min_samples:
        verdict = f"too few samples ({samples} of {one.min_samples})"
        value = part.metrics.get(metric)
        return GateRow(metric=metric, slice=one.name, value=value, limit=limit, passed=None, verdict=verdict)
    return _at_least(metric, part, limit, one.name)


def _at_least(metric: str, scores: SliceScore | None, limit: float, name: str = OVERALL) -> GateRow:
    value = None if scores is None else scores.metrics.get(metric)
    if value is None:
        verdict = f"failed: {_absence(metric, scores, name)}"
        return GateRow(metric=metric, slice=name, value=None, limit=limit, passed=False, verdict=verdict)
    return _judged(metric, name, value, limit, value - limit)


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


def _with_note(rows: Iterable[GateRow], note: str) -> list[GateRow]:
    return [row.model_copy(update={"verdict": row.verdict + note}) for row in rows]
