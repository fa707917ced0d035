"""What a sweep spent, as its report shows it: from the budget's ledger."""

from collections.abc import Iterable, Iterator

from training_assets.sweeps.budget import UNITS, Ledger, TrialCost
from training_assets.sweeps.budget import Cap as CapName
from training_assets.sweeps.report.summary import BudgetFacts, Cap, Spent
from training_assets.sweeps.trials import Trial

NAMES = {**UNITS, "max_cost_usd": "USD"}
TRIAL_HOURS = "hours of trials"
HOUR = 3600.0


def budget_facts(ledger: Ledger, trials: Iterable[Trial], *, over: bool = False) -> BudgetFacts:
    """The caps, what is used of each and will be (nothing more once the sweep is ``over``), and what was spent when.

    That is told in dollars where there are any, else in GPU hours, else in hours of all trials together. A trial is
    taken to have spent evenly from when it was asked for: one that waited or was paused spent later than drawn.
    """
    known: tuple[CapName, ...] = ("max_trials", "gpu_hours", "wall_time", "max_cost_usd")
    limits = ledger.limits()
    caps = [
        _cap(ledger, name, over=over)
        for name in known
        if name in limits or (name != "max_trials" and ledger.spent(name))
    ]
    unit = next((NAMES[name] for name in ("max_cost_usd", "gpu_hours") if ledger.spent(name)), TRIAL_HOURS)
    return BudgetFacts(caps=tuple(caps), unit=unit, spent=tuple(_over_time(ledger, list(trials), unit)))


def _cap(ledger: Ledger, name: CapName, *, over: bool) -> Cap:
    scale = HOUR if name == "wall_time" else 1.0
    limit, forecast = ledger.limits().get(name), None if over else ledger.forecast(name)
    return Cap(
        what=NAMES[name],
        used=max(ledger.spent(name), 0.0) / scale,
        limit=None if limit is None else limit / scale,
        forecast=None if forecast is None else forecast / scale,
    )


def _over_time(ledger: Ledger, trials: list[Trial], unit: str) -> Iterator[Spent]:
    """At each moment at which a trial began or ended."""
    costs = {one.trial: one for one in ledger.costs}
    spans = [
        (trial.asked_at, trial.asked_at + costs[trial.id].seconds, _of(costs[trial.id], unit))
        for trial in trials
        if trial.id in costs
    ]
    for moment in sorted({min(end, ledger.now) for span in spans for end in span[:2]}):
        total = sum(cost * _share(moment, begin, end) for begin, end, cost in spans)
        yield Spent(hours=max(moment - ledger.started_at, 0.0) / HOUR, total=total)


def _share(moment: float, begin: float, end: float) -> float:
    if end <= begin:
        return float(moment >= begin)
    return min(max((moment - begin) / (end - begin), 0.0), 1.0)


def _of(cost: TrialCost, unit: str) -> float:
    return {NAMES["max_cost_usd"]: cost.usd or 0.0, NAMES["gpu_hours"]: cost.gpu_hours}.get(unit, cost.seconds / HOUR)
