"""What a sweep came to, as its report has it (``sweeps/report``)."""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from trainer.contract.eval_report import OVERALL
from training_assets.finals.closing import Closing
from training_assets.finals.contenders import Contender
from training_assets.finals.packages import Package
from training_assets.gates import JUDGED_SPLIT
from training_assets.launchers.session import OUTCOME_FILE, Spent
from training_assets.profiles import REPOSITORY
from training_assets.stores import source
from training_assets.stores.entries import CHECKPOINT
from training_assets.sweeps.budget import Cap as CapName
from training_assets.sweeps.budget import Ledger
from training_assets.sweeps.regression import SPLIT
from training_assets.sweeps.report import SweepSummary, summarise
from training_assets.sweeps.report import summary as report
from training_assets.sweeps.under_way import baseline_of, run_directory

CAPS: Mapping[CapName, str] = {
    "max_trials": "trials",
    "gpu_hours": "GPU hours",
    "wall_time": "hours",
    "max_cost_usd": "USD",
}
HOUR = 3600.0


def summary_of(
    closing: Closing,
    facts: Mapping[int, report.TrialFacts],
    judged: list[Contender],
    outcome: report.Outcome,
) -> SweepSummary:
    """With ``outcome``'s winner, and with none where it has none."""
    found = summarise(
        _sweep(closing),
        closing.sweep.goals,
        closing.sweep.space,
        closing.trials,
        facts=facts,
        recipe=closing.place.recipe,
        baseline=_baseline(closing, judged),
        budget=_budget(closing),
        outcome=outcome,
    )
    return found.model_copy(update={"outcome": outcome})


def ending(closing: Closing) -> report.Outcome:
    """How the sweep ended, and why; nothing else yet."""
    ended, purse = closing.place.ended, closing.purse
    why = purse.exhausted() or purse.refusal(len(closing.trials)) or "the search has nothing more to try"
    reason = ended.reason if ended else why
    if closing.place.stop:
        return report.Outcome(ended="cancelled", reason=reason)
    return report.Outcome(ended="budget" if _at_its_end(closing).exceeded() else "completed", reason=reason)


def packaged(closing: Closing, packages: Iterable[Package]) -> tuple[report.Package, ...]:
    return tuple(
        report.Package(
            trial=one.contender.id,
            path=one.directory.relative_to(closing.place.report).as_posix(),
            holdout=_goals(closing, dict(one.evaluation.report.splits[JUDGED_SPLIT].metrics)),
            smoke={} if one.smoke is None else _goals(closing, dict(one.smoke.splits[JUDGED_SPLIT].metrics)),
            note="passes all gates of a release" if one.passes else one.failures,
        )
        for one in packages
    )


def _goals(closing: Closing, metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Of the whole split, those that are of no one class."""
    wanted = {one.metric for one in closing.sweep.goals.objectives}
    return {
        name: value
        for name, value in metrics.items()
        if value is not None and (name in wanted or name == closing.recipe.training.monitor)
    }


def _sweep(closing: Closing) -> report.SweepFacts:
    plan, sweep = closing.plan, closing.sweep
    return report.SweepFacts(
        name=plan.tune,
        recipe=plan.recipe,
        project=closing.recipe.project,
        strategy=sweep.strategy.name,
        seed=sweep.strategy.seed,
        started_at=plan.started_at,
        ended_at=datetime.fromtimestamp(_at_its_end(closing).now, UTC),
        data_digest=plan.training_set.digest,
        git_sha=source.code_version(REPOSITORY).git_sha,
    )


def _baseline(closing: Closing, judged: list[Contender]) -> report.Baseline | None:
    """Production on the same samples; without one the recipe as it is, where it was tried and judged."""
    for one in judged:
        against = one.record.evaluation and one.record.evaluation.report.against
        if against and SPLIT in against.splits:
            changes, production = against.splits[SPLIT][OVERALL], closing.production
            now = production is not None and production.files[CHECKPOINT].sha256 == against.checkpoint_sha256
            name = production.reference if production is not None and now else f"run {against.run_id}"
            return report.Baseline(name=name, metrics={metric: one.reference for metric, one in changes.items()})
    if baseline_of(closing.sweep, closing.place.recipe) is None:
        return None
    own = (one.record.metrics for one in judged if one.id == 0)
    finite = ({name: value for name, value in metrics.items() if math.isfinite(value)} for metrics in own)
    return next((report.Baseline(name="the recipe", metrics=metrics) for metrics in finite), None)


def _budget(closing: Closing) -> report.BudgetFacts:
    books = _at_its_end(closing)
    limits = books.limits()
    caps = tuple(
        report.Cap(what=what, used=_in_hours(cap, books.spent(cap)), limit=_in_hours(cap, limits.get(cap)))
        for cap, what in CAPS.items()
        if cap in limits or books.spent(cap)
    )
    begun, spent = closing.plan.started_at.timestamp(), list(_spent(closing))
    unit, of = _unit([one for _, one in spent])
    totals = itertools.accumulate(of(one) for _, one in spent)
    over_time = zip((ended for ended, _ in spent), totals, strict=True)
    return report.BudgetFacts(
        caps=caps,
        unit=unit,
        spent=tuple(
            report.Spent(hours=max(ended - begun, 0.0) / HOUR, total=total) for ended, total in over_time
        ),
    )  # fmt: skip


def _unit(spent: list[Spent]) -> tuple[str, Callable[[Spent], float]]:
    """What is drawn over time: money where it has a price, else what there is of hours."""
    if any(one.usd for one in spent):
        return "USD", lambda one: one.usd or 0.0
    if any(one.gpu_hours for one in spent):
        return "GPU hours", lambda one: one.gpu_hours
    return "node hours", lambda one: one.seconds / HOUR


def _in_hours(cap: CapName, value: float | None) -> Any:
    return value / HOUR if cap == "wall_time" and value is not None else value


def _at_its_end(closing: Closing) -> Ledger:
    """The books as they stood when the last attempt at a trial ended: the report is no part of the sweep's time."""
    ends = [ended for ended, _ in _spent(closing)]
    ledger = closing.purse.ledger()
    return replace(ledger, now=ends[-1] if ends else ledger.now)


def _spent(closing: Closing) -> Iterator[tuple[float, Spent]]:
    """When each attempt at a trial ended (seconds since 1970), in that order, and what it took."""
    plans = [plan for trial in closing.trials if (plan := closing.place.trial(trial.id).plan) is not None]
    directories = [run_directory(closing.places, closing.place, plan) for plan in plans]
    outcomes = [json.loads(path.read_bytes()) for one in directories for path in one.glob(f"attempts/*/{OUTCOME_FILE}")]
    yield from sorted(((one["ended_at"], Spent(**one["spent"])) for one in outcomes), key=lambda pair: pair[0])
