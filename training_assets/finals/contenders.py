"""Who may win: the trials that ran to their end and were judged, in order, each beside production's safety."""

from dataclasses import dataclass

from training_assets.facts import slices_of
from training_assets.finals.closing import Closing
from training_assets.gates import GateResult
from training_assets.records import Evaluation, TrialRun
from training_assets.sweeps.regression import compared_by, slices_kept
from training_assets.sweeps.report.leaderboard import Standing, standings
from training_assets.sweeps.report.sources import trial_facts


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


def contenders_of(closing: Closing) -> list[Contender]:
    """The judged trials, the best first; also those that may not win."""
    ledger = closing.purse.ledger()
    facts = trial_facts(closing.place.tune, closing.trials, ledger, closing.runs, {})
    return [
        Contender(facts[one.trial.id].name, one, record, _gate(closing, record))
        for one in standings(closing.trials, facts, closing.sweep.goals)
        if (record := closing.runs.get(one.trial.id)) is not None and record.state == "completed"
    ]


def _gate(closing: Closing, record: TrialRun) -> GateResult:
    """A cross-validation has no model to ask it of yet."""
    asked = None if record.evaluation is None else slice_gate(closing, record.evaluation)
    return asked or GateResult(name="slices_kept", passed=True, severity="block", rows=())


def slice_gate(closing: Closing, evaluation: Evaluation) -> GateResult | None:
    """No safety-critical slice worse than production by more than the sweep allows; None where it says nothing."""
    percent = closing.sweep.max_regression_percent
    if percent is None:
        return None
    compared = compared_by(closing.sweep.goals)
    return slices_kept(evaluation.report, slices_of(evaluation, closing.places), percent, compared=compared)
