"""What the report says in sentences: how the sweep ended, who won, and what a reader should know before the figures."""

from collections import Counter
from collections.abc import Iterator

from training_assets.intervals import figure
from training_assets.sweeps.report.summary import SweepSummary, TrialRow
from training_assets.sweeps.report.values import shown

ENDED = {
    "completed": "Completed",
    "budget": "Ended by its budget",
    "cancelled": "Cancelled",
    "failed": "Failed",
    "running": "Still running",
}


def headline(summary: SweepSummary) -> str:
    """Who won, and by how much."""
    winner = next((row for row in summary.trials if row.id == summary.outcome.winner), None)
    if winner is None:
        best = next((row for row in summary.trials if row.rank == 1), None)
        so_far = "" if best is None else f" Best so far: {scored(summary, best)}."
        return f"No winner.{so_far}"
    return f"Winner: {scored(summary, winner)}."


def scored(summary: SweepSummary, row: TrialRow) -> str:
    parts = []
    for objective in summary.objectives:
        difference = row.differences.get(objective.metric)
        beside = (
            "" if difference is None or summary.baseline is None else f" ({difference:+.3g} to {summary.baseline.name})"
        )
        parts.append(f"{objective.metric} {figure(row.objectives.get(objective.metric))}{beside}")
    return f"{row.name}, " + ", ".join(parts)


def told(summary: SweepSummary) -> Iterator[str]:
    """The facts in the order in which they are asked for."""
    outcome, sweep = summary.outcome, summary.sweep
    yield f"{ENDED[outcome.ended]}{f': {outcome.reason}' if outcome.reason else ''}."
    if sweep.because:
        yield f"Started because of {sweep.because}."
    yield f"{_states(summary)}; strategy {sweep.strategy}, seed {sweep.seed}, recipe {sweep.recipe}."
    yield (
        "Objective: "
        + ", ".join(f"{one.direction} {one.metric}" for one in summary.objectives)
        + (
            f"; constraints: {', '.join(map(str, summary.constraints))}."
            if summary.constraints
            else "; no constraints."
        )
    )
    yield from _changes(summary)
    if outcome.stability:
        yield f"Stability: {outcome.stability}."
    if outcome.registered:
        yield f"Registered as {outcome.registered}."
    yield from outcome.notes
    if outcome.proposal:
        yield f"A change of the recipe is proposed in {outcome.proposal}."
    if outcome.data_request:
        yield f"All trials fail the same slice: more data is wanted, see {outcome.data_request}."


def _states(summary: SweepSummary) -> str:
    counted = Counter(row.state for row in summary.trials)
    states = ", ".join(f"{count} {state}" for state, count in counted.items())
    return f"{len(summary.trials)} trials" + (f" ({states})" if states else "")


def _changes(summary: SweepSummary) -> Iterator[str]:
    winner = next((row for row in summary.trials if row.id == summary.outcome.winner), None)
    if winner is None:
        return
    changed = [
        f"{axis.name} {shown(axis.recipe)} → {shown(winner.params.get(axis.name))}"
        for axis in summary.parameters
        if winner.params.get(axis.name) != axis.recipe
    ]
    yield f"Against the recipe: {', '.join(changed) or 'nothing changed'}."
