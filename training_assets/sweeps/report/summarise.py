"""From what a sweep knows to what its report says."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from trainer.contract.train_config import TrainConfig
from training_assets.sweeps.goals import Goals
from training_assets.sweeps.report.defaults import recommended
from training_assets.sweeps.report.importance import importances, shares
from training_assets.sweeps.report.leaderboard import Standing, leaderboard, standings
from training_assets.sweeps.report.summary import (
    Axis,
    Baseline,
    BudgetFacts,
    Outcome,
    SweepFacts,
    SweepSummary,
    TrialFacts,
)
from training_assets.sweeps.report.values import plain
from training_assets.sweeps.space import LogNormal, LogUniform, Parameter, Space
from training_assets.sweeps.trials import Trial


def summarise(
    sweep: SweepFacts,
    goals: Goals,
    space: Space,
    trials: Iterable[Trial],
    *,
    facts: Mapping[int, TrialFacts] | None = None,
    recipe: TrainConfig | None = None,
    baseline: Baseline | None = None,
    budget: BudgetFacts | None = None,
    outcome: Outcome | None = None,
) -> SweepSummary:
    """All that the report shows. Also of a sweep that still runs, or that came to nothing.

    ``facts`` are those of trials by their number, ``recipe`` is what the trials changed. Without a ``baseline`` the
    trial that is the recipe as it is is one, if there is any. The winner is ``outcome``'s, else the best that may win.
    """
    ordered = standings(trials, facts or {}, goals)
    baseline = baseline or _unchanged(ordered, goals, recipe)
    rows = leaderboard(ordered, goals, baseline)
    varied = [one for one in space.parameters if one.distribution.size > 1]
    axes = axes_of(varied, recipe)
    outcome = outcome or Outcome(ended="running")
    if outcome.winner is None and outcome.ended != "running":
        eligible = [one.trial.id for one in ordered if one.eligible]
        outcome = outcome.model_copy(update={"winner": next(iter(eligible), None)})
    winner = next((row for row in rows if row.id == outcome.winner), None)
    importance = importances(ordered, varied, goals.objectives)
    return SweepSummary(
        sweep=sweep,
        objectives=goals.objectives,
        constraints=goals.constraints,
        baseline=baseline,
        parameters=tuple(axes),
        trials=tuple(rows),
        front=tuple(row.id for row in rows if row.on_front),
        importance=tuple(importance),
        defaults=tuple(recommended(rows, axes, winner, shares(importance, goals.first))),
        budget=budget or BudgetFacts(),
        outcome=outcome,
    )


def _unchanged(ordered: Sequence[Standing], goals: Goals, recipe: TrainConfig | None) -> Baseline | None:
    values = {} if recipe is None else recipe.model_dump(mode="json")
    for one in ordered:
        params = one.trial.params.items()
        if values and one.eligible and all(value_at(values, name) == plain(value) for name, value in params):
            names = {objective.metric for objective in goals.objectives}
            return Baseline(name="recipe", metrics={name: one.metrics[name] for name in sorted(names)})
    return None


def axes_of(parameters: Sequence[Parameter], recipe: TrainConfig | None) -> list[Axis]:
    values = {} if recipe is None else recipe.model_dump(mode="json")
    return [_axis(one, value_at(values, one.name)) for one in parameters]


def _axis(one: Parameter, recipe: JsonValue) -> Axis:
    distribution = one.distribution
    if not distribution.numeric:
        choices = tuple(plain(distribution.nth(place)) for place in range(int(distribution.size)))
        return Axis(name=one.name, scale="choice", choices=choices, recipe=recipe)
    low, high = getattr(distribution, "bounds", (-math.inf, math.inf))
    return Axis(
        name=one.name,
        scale="log" if isinstance(distribution, LogUniform | LogNormal) else "linear",
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        recipe=recipe,
    )


def value_at(values: Mapping[str, Any], name: str) -> JsonValue:
    """The value of the field with the dotted ``name``; None where there is none."""
    found: Any = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return plain(found)
