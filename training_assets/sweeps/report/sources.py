"""The report of a sweep from where the sweep keeps its own (``sweeps/place.py``) and the records of its trials."""

from collections.abc import Mapping
from dataclasses import replace

from trainer.contract.names import cross_validation_name
from training_assets.records import TrialRun
from training_assets.sweeps.budget import Ledger
from training_assets.sweeps.place import Ended, SweepPlace
from training_assets.sweeps.report.books import budget_facts
from training_assets.sweeps.report.summarise import summarise
from training_assets.sweeps.report.summary import Baseline, Outcome, SweepFacts, SweepSummary, TrialFacts
from training_assets.sweeps.trials import Trials


def summary_of(
    place: SweepPlace,
    trials: Trials,
    ledger: Ledger,
    runs: Mapping[int, TrialRun],
    *,
    errors: Mapping[int, str] | None = None,
    baseline: Baseline | None = None,
    outcome: Outcome | None = None,
    ended: Ended | None = None,
) -> SweepSummary:
    """``runs`` are the records of trials by their number, ``errors`` say of others why they failed. ``ended``: by
    default what the sweep's place says of it.

    Of a trial without a record the ledger has what it took.
    """
    ended = ended or place.ended
    if ended is not None:
        ledger = replace(ledger, now=ended.ended_at.timestamp())
    return summarise(
        _facts(place, ended),
        place.sweep.goals,
        place.sweep.space,
        trials,
        facts=trial_facts(place.tune, trials, ledger, runs, errors or {}),
        recipe=place.recipe,
        baseline=baseline,
        budget=budget_facts(ledger, trials, over=ended is not None),
        outcome=outcome or _outcome(ended),
    )


def _facts(place: SweepPlace, ended: Ended | None) -> SweepFacts:
    plan, sweep, recipe = place.plan, place.sweep, place.recipe
    return SweepFacts(
        name=plan.tune,
        recipe=plan.recipe,
        project=recipe.project,
        strategy=sweep.strategy.name + ("" if sweep.strategy.backend == "own" else f" ({sweep.strategy.backend})"),
        seed=sweep.strategy.seed,
        started_at=plan.started_at,
        ended_at=None if ended is None else ended.ended_at,
        window=plan.window,
        because=plan.because,
        data_digest=plan.training_set.digest,
    )


def trial_facts(
    tune: str, trials: Trials, ledger: Ledger, runs: Mapping[int, TrialRun], errors: Mapping[int, str]
) -> dict[int, TrialFacts]:
    costs = {one.trial: one for one in ledger.costs}
    facts = {}
    for trial in trials:
        run, cost = runs.get(trial.id), costs.get(trial.id)
        facts[trial.id] = TrialFacts(
            name=cross_validation_name(tune, trial.id),
            gpu_hours=run.gpu_hours if run else cost and cost.gpu_hours,
            cost_usd=run.usd if run else cost and cost.usd,
            seconds=run.node_seconds if run else cost and cost.seconds,
            metrics=run.metrics if run else {},
            error=errors.get(trial.id),
        )
    return facts


def _outcome(ended: Ended | None) -> Outcome:
    return Outcome(ended="running") if ended is None else Outcome(ended="completed", reason=ended.reason)
