"""Trials in the order of what they are worth."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from training_assets.sweeps.goals import Constraint, Goals
from training_assets.sweeps.report.pareto import pareto_layers
from training_assets.sweeps.report.summary import Baseline, Decided, Kept, TrialFacts, TrialRow
from training_assets.sweeps.report.values import plain
from training_assets.sweeps.trials import Trial


@dataclass(frozen=True)
class Standing:
    """A trial and what it is worth: ``metrics`` of its evaluation, or after its best epoch; ``layer`` is Pareto's."""

    trial: Trial
    facts: TrialFacts
    metrics: Mapping[str, float]
    best_epoch: int | None
    scores: tuple[float, ...]
    feasible: bool | None
    layer: int = 0

    @property
    def ranked(self) -> bool:
        return all(math.isfinite(score) for score in self.scores) and self.trial.state != "failed"

    @property
    def eligible(self) -> bool:
        """May win: it ran to its end and is not known to break a constraint."""
        return self.ranked and self.trial.state == "completed" and self.feasible is not False


def standings(trials: Iterable[Trial], facts: Mapping[int, TrialFacts], goals: Goals) -> list[Standing]:
    """The best first: those that may win, then those that broke a constraint, then those that did not run to their end,
    then those without a value.

    With several objectives the Pareto layer comes first, then the first objective.
    """
    found = [_standing(trial, facts.get(trial.id) or TrialFacts(name=str(trial.id)), goals) for trial in trials]
    return sorted(_layered(found), key=_order)


def best_epoch(trial: Trial, goals: Goals) -> int | None:
    """The epoch after which the first objective was best, the first of several; None where it has no value."""
    scores = {epoch: goals.first.score(metrics) for epoch, metrics in sorted(trial.curve.items())}
    finite = {epoch: score for epoch, score in scores.items() if math.isfinite(score)}
    return max(finite, key=lambda epoch: finite[epoch], default=None)


def metrics_at_best(trial: Trial, goals: Goals) -> dict[str, float]:
    """The metrics after the best epoch, and of those that it lacks what was last known."""
    best = best_epoch(trial, goals)
    known = {name: value for _, metrics in sorted(trial.curve.items()) for name, value in metrics.items()}
    return {**known, **(trial.curve[best] if best is not None else {})}


def _standing(trial: Trial, facts: TrialFacts, goals: Goals) -> Standing:
    metrics = {**metrics_at_best(trial, goals), **facts.metrics}
    return Standing(trial, facts, metrics, best_epoch(trial, goals), goals.scores(metrics), goals.feasible(metrics))


def _layered(found: list[Standing]) -> Iterator[Standing]:
    """Trials are compared with those that are worth as much as they: that may win too, or that may not either."""
    for eligible in (True, False):
        group = [one for one in found if one.ranked and one.eligible == eligible]
        layers = pareto_layers([one.scores for one in group])
        yield from (replace(one, layer=layer) for one, layer in zip(group, layers, strict=True))
    yield from (one for one in found if not one.ranked)


def _order(one: Standing) -> tuple[bool, bool, bool, int, float, int]:
    layer = one.layer if len(one.scores) > 1 else 0
    score = one.scores[0] if one.ranked else 0.0
    return (
        not one.ranked, one.trial.state != "completed", one.feasible is False, layer, -score, one.trial.id,
    )  # fmt: skip


def leaderboard(ordered: Iterable[Standing], goals: Goals, baseline: Baseline | None) -> list[TrialRow]:
    return [_row(place, one, goals, baseline) for place, one in enumerate(ordered, start=1)]


def _row(place: int, one: Standing, goals: Goals, baseline: Baseline | None) -> TrialRow:
    trial, facts = one.trial, one.facts
    names = [objective.metric for objective in goals.objectives]
    objectives = _finite({name: one.metrics[name] for name in names if name in one.metrics})
    before = {} if baseline is None else baseline.metrics
    return TrialRow(
        rank=place if one.ranked else None,
        id=trial.id,
        name=facts.name,
        state=trial.state,
        parent=trial.suggestion.parent,
        params={name: plain(value) for name, value in trial.params.items()},
        objectives=objectives,
        differences={name: value - before[name] for name, value in objectives.items() if name in before},
        constraints=tuple(_kept(constraint, one.metrics) for constraint in goals.constraints),
        feasible=one.feasible,
        on_front=len(names) > 1 and one.eligible and one.layer == 0,
        epochs=trial.epoch,
        best_epoch=one.best_epoch,
        gpu_hours=facts.gpu_hours,
        cost_usd=facts.cost_usd,
        seconds=facts.seconds,
        error=facts.error or _last_word(trial),
        curve={name: _curve(trial, name) for name in names},
        decisions=tuple(_decisions(trial, goals)),
    )


def _kept(constraint: Constraint, metrics: Mapping[str, float]) -> Kept:
    value, violation = metrics.get(constraint.metric, math.nan), constraint.violation(metrics)
    return Kept(
        constraint=str(constraint),
        value=value if math.isfinite(value) else None,
        kept=None if math.isnan(violation) else violation <= 0,
    )


def _last_word(trial: Trial) -> str | None:
    """Why a failed trial was given up, where a rule did it."""
    last = trial.decisions.get(max(trial.decisions, default=0))
    return last.reason or None if trial.state == "failed" and last is not None else None


def _curve(trial: Trial, metric: str) -> dict[int, float]:
    return {epoch: value for epoch in sorted(trial.curve) if (value := trial.finite(metric, epoch)) is not None}


def _decisions(trial: Trial, goals: Goals) -> Iterator[Decided]:
    """Those that a rule made: that a trial goes on where nothing compares it is not worth a line."""
    for epoch, one in sorted(trial.decisions.items()):
        if one.rule or one.verdict != "continue":
            reached = goals.first.score(trial.curve.get(epoch, {}))
            yield Decided(
                epoch=epoch,
                verdict=one.verdict,
                rule=one.rule,
                reason=one.reason,
                rung=one.rung,
                threshold=one.threshold if one.threshold is not None and math.isfinite(one.threshold) else None,
                reached=reached if math.isfinite(reached) else None,
                peers=one.peers,
            )


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if math.isfinite(value)}
