"""What the end of a sweep adds to its summary (``sweeps/report``): how it ended, production, the best judged again."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.contract.eval_report import OVERALL
from training_assets.cross_validated import directory_of
from training_assets.finals.closing import Closing
from training_assets.finals.contenders import Contender
from training_assets.finals.packages import Package
from training_assets.gates import JUDGED_SPLIT
from training_assets.launchers.session import OUTCOME_FILE
from training_assets.stores.entries import CHECKPOINT
from training_assets.sweeps.budget import Ledger
from training_assets.sweeps.place import Ended, TrialPlan
from training_assets.sweeps.regression import SPLIT
from training_assets.sweeps.report import SweepSummary
from training_assets.sweeps.report import summary as report
from training_assets.sweeps.report.sources import summary_of
from training_assets.sweeps.under_way import run_directory


def summarised(closing: Closing, judged: list[Contender], outcome: report.Outcome) -> SweepSummary:
    """With ``outcome``'s winner, and with none where it has none."""
    found = summary_of(
        closing.place,
        closing.trials,
        closing.purse.ledger(),
        closing.runs,
        errors=_errors(closing),
        baseline=_production(closing, judged),
        outcome=outcome,
        ended=ended_of(closing),
    )
    return found.model_copy(update={"outcome": outcome})


def ending(closing: Closing) -> report.Outcome:
    """How the sweep ended, and why; nothing else yet."""
    ended = ended_of(closing)
    if closing.place.stop:
        return report.Outcome(ended="cancelled", reason=ended.reason)
    return report.Outcome(ended="budget" if books_of(closing).exceeded() else "completed", reason=ended.reason)


def books_of(closing: Closing) -> Ledger:
    """As they stood when the sweep ended."""
    return replace(closing.purse.ledger(), now=ended_of(closing).ended_at.timestamp())


def ended_of(closing: Closing) -> Ended:
    """As the sensor has it; before it has, when the last attempt at a trial ended."""
    if ended := closing.place.ended:
        return ended
    purse, moment = closing.purse, max((one["ended_at"] for one in _outcomes(closing)), default=closing.purse.clock())
    why = purse.exhausted() or purse.refusal(len(closing.trials)) or "the search has nothing more to try"
    return Ended(reason=why, ended_at=datetime.fromtimestamp(moment, UTC))


def packaged(closing: Closing, packages: Iterable[Package]) -> tuple[report.Package, ...]:
    return tuple(
        report.Package(
            trial=one.contender.id,
            path=one.directory.relative_to(closing.place.report).as_posix(),
            holdout=_shown(closing, one.evaluation.report.splits[JUDGED_SPLIT].metrics),
            smoke={} if one.smoke is None else _shown(closing, one.smoke.splits[JUDGED_SPLIT].metrics),
            note="passes all gates of a release" if one.passes else one.failures,
        )
        for one in packages
    )


def _shown(closing: Closing, metrics: Mapping[str, float | None]) -> dict[str, float]:
    """The objectives, and what the recipe goes by."""
    wanted = {*(one.metric for one in closing.sweep.goals.objectives), closing.recipe.training.monitor}
    return {name: value for name, value in metrics.items() if value is not None and name in wanted}


def _production(closing: Closing, judged: list[Contender]) -> report.Baseline | None:
    """Its figures on val, as trials were compared with it; None where there was none."""
    for one in judged:
        against = one.record.evaluation and one.record.evaluation.report.against
        if against and SPLIT in against.splits:
            changes, now = against.splits[SPLIT][OVERALL], closing.production
            same = now is not None and now.files[CHECKPOINT].sha256 == against.checkpoint_sha256
            name = now.reference if now is not None and same else f"run {against.run_id}"
            return report.Baseline(name=name, metrics={metric: change.reference for metric, change in changes.items()})
    return None


def _errors(closing: Closing) -> dict[int, str]:
    """Why failed trials did: what is on record of the last attempt at each."""
    failed = {trial.id for trial in closing.trials if trial.state == "failed"}
    found = sorted(_outcomes(closing), key=lambda one: one["ended_at"])
    return {one["trial"]: one["reason"] for one in found if one["trial"] in failed and one["reason"]}


def _outcomes(closing: Closing) -> Iterator[dict[str, Any]]:
    """What became of each attempt at a trial."""
    for trial in closing.trials:
        plan = closing.place.trial(trial.id).plan
        if plan is not None:
            for path in _directory(closing, plan).glob(f"attempts/*/{OUTCOME_FILE}"):
                yield {**json.loads(path.read_bytes()), "trial": trial.id}


def _directory(closing: Closing, plan: TrialPlan) -> Path:
    if closing.sweep.cross_validation.runs > 1:
        return directory_of(closing.places, closing.place, plan.trial)
    return run_directory(closing.places, closing.place, plan)
