"""What is known of a trial once its model was judged: figures by the names that goals use, and its gates.

Judged is val: what a sweep chooses by must not be what its winner is released by. Production stands beside it on the
same samples, in ``against`` of the report or as a report of its own.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from trainer.contract.eval_report import OVERALL, Comparison, EvalReport, SliceScore
from trainer.contract.metrics import gain
from trainer.contract.results import Exports
from trainer.contract.slices import Slice, Slices
from training_assets.gates import LATENCY_FORMAT, GateResult, GateRow, general
from training_assets.sweeps.goals import Goals
from training_assets.sweeps.metric_names import AT, REGRESSION, is_cost

SPLIT = "val"
MEBIBYTE = 2**20
LOST = "failed: production has this metric, the model has not"
ROUNDING = 1e-9
Scores = Mapping[str, Mapping[str, float]]
"""Slice (``all``: the whole split) → metric → value."""


@dataclass(frozen=True)
class Pair:
    """A metric of a trial beside production's."""

    metric: str
    value: float
    reference: float

    @property
    def worse(self) -> float:
        """By how much, in the metric's own unit; below zero it is better."""
        return -gain(self.metric, self.value, self.reference)

    @property
    def worse_percent(self) -> float:
        """Of production's value; of a zero that got worse no percentage is enough."""
        if self.reference == 0:
            return float("inf") if self.worse > ROUNDING else 0.0
        return 100 * self.worse / abs(self.reference)


def trial_metrics(
    report: EvalReport,
    exports: Exports | None = None,
    against: EvalReport | Comparison | None = None,
    *,
    compared: Collection[str] = (),
    split: str = SPLIT,
) -> dict[str, float]:
    """Everything that a goal can name, as far as it is defined: what has no value is not in it.

    ``<task>/<metric>`` of the split, the same ``@<slice>``; ``regression_delta`` overall and ``.<slice>``, by how much
    the worst of ``compared`` is below production's (without any: of the metrics that are not of one class); what was
    measured of the exported model. Without production there is no regression: 0, so that the first model can be found.
    """
    scores = scores_of(report, split)
    found = dict(scores.get(OVERALL, {}))
    slices = [name for name in scores if name != OVERALL]
    found |= {f"{metric}{AT}{name}": value for name in slices for metric, value in scores[name].items()}
    found |= _regressions(report, against, compared, split)
    return found | ({} if exports is None else _costs(exports))


def slices_kept(
    report: EvalReport,
    slices: Slices,
    max_regression_percent: float,
    against: EvalReport | Comparison | None = None,
    *,
    compared: Collection[str] = (),
    split: str = SPLIT,
) -> GateResult:
    """No safety-critical slice worse than production by more than so many percent, in any of the compared metrics.

    Noise is no excuse here; a slice with fewer than ``min_samples`` samples decides nothing, nor does a sweep without
    production.
    """
    critical = [one for one in slices.slices if one.safety_critical]
    pairs = pairs_of(report, against, compared, split)
    score = report.splits.get(split)
    parts = {} if score is None else score.slices
    rows = [row for one in critical for row in _rows(one, parts.get(one.name), pairs, max_regression_percent)]
    rows += [_nothing(name, metric, LOST, passed=False) for name, metric in _lost(report, against, compared, split)]
    passed = all(row.passed is not False for row in rows)
    return GateResult(name="slices_kept", passed=passed, severity="block", rows=tuple(rows))


def compared_by(goals: Goals) -> frozenset[str]:
    """The tasks' metrics that a sweep is after: where it names any, a regression is one of these."""
    named = [*(one.metric for one in goals.objectives), *(one.metric for one in goals.constraints)]
    return frozenset(name.partition(AT)[0] for name in named if not is_cost(name))


def pairs_of(
    report: EvalReport, against: EvalReport | Comparison | None, compared: Collection[str] = (), split: str = SPLIT
) -> dict[str, list[Pair]]:
    """The compared metrics beside production's, by slice; empty where there is no production to compare with."""
    own, other = scores_of(report, split), _references(report, against, split)
    return {
        name: [Pair(metric, own[name][metric], value) for metric, value in scores.items() if metric in own[name]]
        for name, scores in _restricted(other, compared).items()
        if name in own
    }


def scores_of(report: EvalReport, split: str) -> Scores:
    score = report.splits.get(split)
    if score is None:
        return {}
    return {OVERALL: _defined(score), **{name: _defined(part) for name, part in score.slices.items()}}


def _defined(score: SliceScore) -> dict[str, float]:
    return {metric: value for metric, value in score.metrics.items() if value is not None}


def _references(report: EvalReport, against: EvalReport | Comparison | None, split: str) -> Scores:
    other = against or report.against
    if other is None:
        return {}
    if isinstance(other, EvalReport):
        return scores_of(other, split)
    return {
        name: {metric: change.reference for metric, change in changes.items()}
        for name, changes in other.splits.get(split, {}).items()
    }


def _restricted(scores: Scores, compared: Collection[str]) -> Scores:
    return {
        name: {metric: value for metric, value in metrics.items() if _is_compared(metric, compared)}
        for name, metrics in scores.items()
    }


def _regressions(
    report: EvalReport, against: EvalReport | Comparison | None, compared: Collection[str], split: str
) -> dict[str, float]:
    if not _references(report, against, split):
        return {_regression(name): 0.0 for name in scores_of(report, split)}
    pairs = pairs_of(report, against, compared, split)
    return {_regression(name): max(one.worse for one in found) for name, found in pairs.items() if found}


def _regression(name: str) -> str:
    return REGRESSION if name == OVERALL else f"{REGRESSION}.{name}"


def _costs(exports: Exports) -> dict[str, float]:
    """Of the exported file that is released, as ``COSTS`` names them."""
    found: dict[str, float] = {"flops": exports.flops, "parameters": float(exports.parameters)}
    for one in exports.files:
        if one.format == LATENCY_FORMAT:
            latency = one.latency
            found |= {f"latency_{name}_ms": getattr(latency, f"{name}_ms") for name in ("p50", "p95", "p99")}
            found["model_mb"] = one.bytes / MEBIBYTE
            if latency.peak_memory_bytes is not None:
                found["peak_memory_mb"] = latency.peak_memory_bytes / MEBIBYTE
    return found


def _rows(one: Slice, part: SliceScore | None, pairs: Mapping[str, list[Pair]], limit: float) -> Iterator[GateRow]:
    if one.name not in pairs:
        return
    samples = 0 if part is None else part.samples
    if samples < one.min_samples:
        yield _nothing(one.name, "*", f"too few samples ({samples} of {one.min_samples})")
        return
    for pair in pairs[one.name]:
        yield _row(one.name, pair, limit)


def _row(name: str, pair: Pair, limit: float) -> GateRow:
    passed = pair.worse_percent <= limit + ROUNDING
    allowed = abs(pair.reference) * limit / 100
    bound = pair.reference - allowed if gain(pair.metric, 1.0, 0.0) > 0 else pair.reference + allowed
    verdict = f"{'passed' if passed else 'failed'} ({-pair.worse_percent:+.3g} % to production)"
    margin = gain(pair.metric, pair.value, bound)
    return GateRow(
        metric=pair.metric,
        slice=name,
        value=pair.value,
        limit=bound,
        passed=passed,
        verdict=verdict,
        margin=margin,
        reference=pair.reference,
    )


def _lost(
    report: EvalReport, against: EvalReport | Comparison | None, compared: Collection[str], split: str
) -> list[tuple[str, str]]:
    """What production has and the trial has not, by slice and metric."""
    own, other = scores_of(report, split), _restricted(_references(report, against, split), compared)
    missing = [(name, metric) for name, scores in other.items() for metric in scores if metric not in own.get(name, {})]
    comparison = against or report.against
    named = comparison.lost.get(split, ()) if isinstance(comparison, Comparison) else ()
    return missing + [(OVERALL, metric) for metric in named if _is_compared(metric, compared)]


def _is_compared(metric: str, compared: Collection[str]) -> bool:
    return metric in compared if compared else general(metric)


def _nothing(name: str, metric: str, verdict: str, *, passed: bool | None = None) -> GateRow:
    return GateRow(metric=metric, slice=name, value=None, limit=None, passed=passed, verdict=verdict)
