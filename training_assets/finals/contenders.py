"""Who may win: the trials that ran to their end and were judged, in order, each beside production's safety."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import dagster as dg

from trainer.contract.names import cross_validation_name
from training_assets.facts import slices_of
from training_assets.finals.closing import Closing
from training_assets.gates import GateResult
from training_assets.records import TrialRun
from training_assets.stores.record_store import MissingRecord, RecordStore
from training_assets.sweeps.regression import compared_by, slices_kept
from training_assets.sweeps.report.leaderboard import Standing, standings
from training_assets.sweeps.report.summary import TrialFacts
from training_assets.sweeps.trials import Trial
from training_assets.sweeps.under_way import run_directory

NOT_ASKED = GateResult(name="slices_kept", passed=True, severity="block", rows=())


@dataclass(frozen=True)
class Contender:
    """A trial that was judged. ``gate`` holds its safety-critical slices, on val, against production's."""

    name: str
    standing: Standing
    record: TrialRun
    gate: GateResult

    @property
    def id(self) -> int:
        return self.standing.trial.id

    @property
    def may_win(self) -> bool:
        return self.standing.eligible and not self.gate.blocks


def contenders_of(closing: Closing, facts: Mapping[int, TrialFacts]) -> list[Contender]:
    """The judged trials, the best first; also those that may not win."""
    records = records_of(closing)
    return [
        Contender(facts[one.trial.id].name, one, record, _gate(closing, record))
        for one in standings(closing.trials, facts, closing.sweep.goals)
        if (record := records.get(one.trial.id)) is not None and record.evaluation is not None
    ]


def records_of(closing: Closing) -> dict[int, TrialRun]:
    """What is on record of each trial; one that failed has none."""
    store, key = RecordStore(closing.places), dg.AssetKey([closing.plan.recipe, "trial"])
    found: dict[int, TrialRun] = {}
    for trial in closing.trials:
        try:
            found[trial.id] = store.read(key, cross_validation_name(closing.place.tune, trial.id), TrialRun)
        except MissingRecord as missing:
            if trial.state == "completed":
                closing.context.log.warning(f"trial {trial.id} is left out: {missing}")
    return found


def facts_of_trials(closing: Closing) -> dict[int, TrialFacts]:
    """What the journal does not know: names, costs, figures of the evaluation, and why one failed."""
    records = records_of(closing)
    return {trial.id: _facts(closing, trial, records.get(trial.id)) for trial in closing.trials}


def _facts(closing: Closing, trial: Trial, record: TrialRun | None) -> TrialFacts:
    spent, judged = closing.place.trial(trial.id).spent, record is not None and trial.state == "completed"
    metrics = record.metrics if record is not None and judged else {}
    return TrialFacts(
        name=cross_validation_name(closing.place.tune, trial.id),
        gpu_hours=spent and spent.gpu_hours,
        cost_usd=spent and spent.usd,
        seconds=spent and spent.seconds,
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        error=next(iter(_errors(closing, trial)), None) if trial.state == "failed" else None,
    )


def _errors(closing: Closing, trial: Trial) -> Iterator[str]:
    """Why attempts at it ended, the last one first."""
    import json

    plan = closing.place.trial(trial.id).plan
    if plan is not None:
        directory = run_directory(closing.places, closing.place, plan)
        for path in sorted(directory.glob("attempts/*/outcome.json"), reverse=True):
            if reason := json.loads(path.read_bytes())["reason"]:
                yield reason


def _gate(closing: Closing, record: TrialRun) -> GateResult:
    percent = closing.sweep.max_regression_percent
    if percent is None or record.evaluation is None:
        return NOT_ASKED
    slices = slices_of(record.evaluation, closing.places)
    return slices_kept(record.evaluation.report, slices, percent, compared=compared_by(closing.sweep.goals))
