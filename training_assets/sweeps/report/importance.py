"""Which parameters matter, said by two evaluators that each name themselves.

fANOVA (Hutter et al., 2014; Optuna's) shares out the variance over all of what was searched. SHAP (Lundberg et al.,
2020) explains the trials that were made, through a forest fitted to them, and says which way a value pushes. They
answer different questions, and with few trials both guess: fewer than ``LEAST`` are not shown at all.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training_assets.sweeps.goals import Objective
from training_assets.sweeps.report.leaderboard import Standing
from training_assets.sweeps.report.shapley import shapley_values
from training_assets.sweeps.report.summary import Effect, Importance
from training_assets.sweeps.space import Categorical, Parameter
from training_assets.sweeps.trials import Params

if TYPE_CHECKING:
    import numpy as np
    import optuna

FANOVA = "fANOVA (Optuna's, 64 trees)"
SHAP = "SHAP, mean of |value| (exact, on a forest of 100 trees)"
LEAST = 8
MOST = 200
"""Trials that are looked at, drawn by chance: fANOVA takes ten seconds for so many, and more than in proportion."""
MOST_BACKGROUND = 64
MEANINGFUL_FIT = 0.0
MEANINGLESS = "a forest fitted to these trials does not predict those it has not seen: do not read much into it"


@dataclass(frozen=True)
class Basis:
    """What trials are compared by: the objective's values (as measured) by trial, and in words when they were taken."""

    values: Mapping[int, float]
    words: str


def importances(
    ordered: Sequence[Standing], parameters: Sequence[Parameter], objectives: Sequence[Objective]
) -> list[Importance]:
    """Of each objective, by each evaluator."""
    params = {one.trial.id: one.trial.params for one in ordered}
    varied = [one for one in parameters if len({repr(found.get(one.name)) for found in params.values()}) > 1]
    return [found for objective in objectives for found in _of(objective, ordered, varied)]


def shares(found: Sequence[Importance], objective: Objective) -> dict[str, float]:
    """By fANOVA, of each parameter in ``objective``; empty where it could not be said, or hardly."""
    told = [one for one in found if (one.evaluator, one.metric) == (FANOVA, objective.metric) and not one.note]
    return {effect.parameter: effect.share for one in told for effect in one.effects}


def _of(objective: Objective, ordered: Sequence[Standing], parameters: Sequence[Parameter]) -> Iterator[Importance]:
    basis = common_basis(ordered, objective)
    complete = {one.trial.id: one.trial.params for one in ordered if _is_complete(one, basis, parameters)}
    usable = _drawn(complete)
    words = basis.words + ("" if usable == complete else f"; drawn from {len(complete)}")
    told = Importance(evaluator=FANOVA, metric=objective.metric, basis=words, trials=len(usable))
    values = [basis.values[one] for one in usable]
    if reason := _why_not(len(usable), parameters, values):
        yield told.model_copy(update={"note": reason})
        yield told.model_copy(update={"evaluator": SHAP, "note": reason})
        return
    rows, groups = _columns(usable, parameters)
    forest = _forest(rows, values)
    fit = float(forest.oob_score_)
    told = told.model_copy(update={"fit": fit, "note": "" if fit > MEANINGFUL_FIT else MEANINGLESS})
    yield told.model_copy(update={"effects": tuple(_fanova(usable, values, parameters))})
    effects = _shap(forest, rows, groups, list(usable), parameters)
    yield told.model_copy(update={"evaluator": SHAP, "effects": tuple(effects)})


def _drawn(params: Mapping[int, Params]) -> dict[int, Params]:
    chosen = set(params) if len(params) <= MOST else set(random.Random(0).sample(sorted(params), MOST))  # noqa: S311 - a draw that is the same each time
    return {trial: found for trial, found in params.items() if trial in chosen}


def common_basis(ordered: Sequence[Standing], objective: Objective) -> Basis:
    """The values that most trials share a moment of.

    Those that ran to their end are the survivors of what stopped the others: only where they are at least half is
    the final value used, else that after the last epoch which at least half of the trials reached.
    """
    metric = objective.metric
    final = {one.trial.id: one.metrics[metric] for one in ordered if _is_final(one, metric)}
    known = [
        one for one in ordered if one.trial.id in final or any(one.trial.finite(metric, e) for e in one.trial.curve)
    ]
    if len(final) >= max(LEAST, len(known) / 2):
        return Basis(final, "of the trials that ran to their end")
    for epoch in sorted({epoch for one in ordered for epoch in one.trial.curve}, reverse=True):
        found = {one.trial.id: v for one in ordered if (v := one.trial.finite(metric, epoch)) is not None}
        if len(found) >= max(LEAST, len(known) / 2):
            return Basis(found, f"after epoch {epoch}, which {len(found)} of {len(known)} trials reached")
    return Basis(final, "of the trials that ran to their end")


def _is_final(one: Standing, metric: str) -> bool:
    return one.trial.state == "completed" and math.isfinite(one.metrics.get(metric, math.nan))


def _is_complete(one: Standing, basis: Basis, parameters: Sequence[Parameter]) -> bool:
    return one.trial.id in basis.values and all(parameter.name in one.trial.params for parameter in parameters)


def _why_not(trials: int, parameters: Sequence[Parameter], values: Sequence[float]) -> str:
    if trials < LEAST:
        return f"{trials} trials can be compared: too few to say what matters, at least {LEAST} are needed"
    if not parameters:
        return "no parameter was varied"
    return "" if len(set(values)) > 1 else "all trials have the same value"


def _fanova(usable: Mapping[int, Params], values: Sequence[float], parameters: Sequence[Parameter]) -> Iterator[Effect]:
    """Over the declared distributions, by handing Optuna their coordinates: it takes a log range for a linear one."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ranges = {one.name: _optunas(one) for one in parameters}
    study = optuna.create_study()
    for params, value in zip(usable.values(), values, strict=True):
        point = {one.name: _place(one, params) for one in parameters}
        study.add_trial(optuna.create_trial(params=point, distributions=ranges, value=value))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    for name, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items():
        yield Effect(parameter=name, share=min(share, 1.0))


def _optunas(one: Parameter) -> "optuna.distributions.BaseDistribution":
    import optuna

    if one.distribution.numeric:
        return optuna.distributions.FloatDistribution(0.0, 1.0)
    return optuna.distributions.CategoricalDistribution(range(int(one.distribution.size)))


def _place(one: Parameter, params: Params) -> float | int:
    """The coordinate of a number, the index of a choice."""
    value = params[one.name]
    return one.distribution.index(value) if isinstance(one.distribution, Categorical) else one.distribution.unit(value)


def _forest(rows: "np.ndarray", values: Sequence[float]) -> Any:
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(
        100, min_samples_leaf=2, max_leaf_nodes=64, bootstrap=True, oob_score=True, random_state=0
    ).fit(rows, values)


def _shap(
    forest: Any, rows: "np.ndarray", groups: "np.ndarray", trials: Sequence[int], parameters: Sequence[Parameter]
) -> list[Effect]:
    import numpy as np

    found = shapley_values(forest, rows, np.random.default_rng(0).permutation(rows)[:MOST_BACKGROUND], groups)
    sizes = np.abs(found).mean(axis=0)
    shares = sizes / (sizes.sum() or 1.0)
    effects = [
        Effect(parameter=one.name, share=share, shap=dict(zip(trials, values, strict=True)))
        for one, share, values in zip(parameters, shares.tolist(), found.T.tolist(), strict=True)
    ]
    return sorted(effects, key=lambda one: -one.share)


def _columns(usable: Mapping[int, Params], parameters: Sequence[Parameter]) -> "tuple[np.ndarray, np.ndarray]":
    """A column for each number and for each choice, and the parameter (its place) that each column is of."""
    import numpy as np

    columns, groups = [], []
    for group, one in enumerate(parameters):
        places = [_place(one, params) for params in usable.values()]
        choices = [None] if one.distribution.numeric else range(int(one.distribution.size))
        for choice in choices:
            columns.append(places if choice is None else [float(place == choice) for place in places])
            groups.append(group)
    return np.array(columns, float).T, np.array(groups)
