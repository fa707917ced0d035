"""Whether a sweep fits its recipe: asked before anything starts, so that no trial ends on a name or a bound."""

import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Any

from trainer.contract.errors import ContractError, Problem
from trainer.contract.train_config import TrainConfig
from training_assets.recipes import overridden
from training_assets.sweeps.goals import Constraint
from training_assets.sweeps.metric_names import AT, COSTS, REGRESSION, is_cost
from training_assets.sweeps.parameters import as_value, overrides
from training_assets.sweeps.settings import Budget
from training_assets.sweeps.space import Constant, Numeric, Parameter
from training_assets.sweeps.sweep_file import SWEEP_FILE, Settled, Sweep
from training_assets.sweeps.trials import Value

EPOCHS = "training.epochs"
DEFAULT_TRIALS = 50
PROBES = (0.0, 0.382, 0.5, 0.618, 1.0)
"""Coordinates at which a distribution is tried: its extremes, and values between that are no whole numbers."""


def settled(sweep: Sweep, recipe: TrainConfig, file: str = SWEEP_FILE) -> Settled:
    """``sweep`` with what it leaves open taken from ``recipe``, once all of it fits.

    Raises:
        ContractError: a parameter, a value that it can have, or a metric that the recipe does not know.
    """
    problems = [*_recipe_problems(sweep, recipe, file), *_parameter_problems(sweep, recipe, file)]
    problems += [*_metric_problems(sweep, recipe, file), *_grid_problems(sweep, file)]
    if problems:
        raise ContractError(f"{file} does not fit recipe {recipe.name}", problems)
    filled = {
        "recipe": recipe.name,
        "objective": sweep.objective or recipe.training.monitor,
        "epochs": sweep.epochs or _constants(sweep).get(EPOCHS) or recipe.training.epochs,
        "budget": _budget(sweep),
    }
    return Settled.model_validate({**sweep.model_dump(), **filled})


def baseline(sweep: Sweep, recipe: TrainConfig) -> dict[str, Value]:
    """The recipe's own settings as a trial of the sweep; what the sweep keeps constant stays so."""
    fixed, own = _constants(sweep), recipe.model_dump(mode="json")
    names = [parameter.name for parameter in sweep.space.parameters]
    return {name: fixed[name] if name in fixed else as_value(_at(own, name)) for name in names}


def _constants(sweep: Sweep) -> dict[str, Any]:
    parameters = sweep.space.parameters
    return {one.name: one.distribution.value for one in parameters if isinstance(one.distribution, Constant)}


def _recipe_problems(sweep: Sweep, recipe: TrainConfig, file: str) -> Iterator[Problem]:
    if sweep.recipe not in (None, recipe.name):
        yield Problem(file, f"'{sweep.recipe}'", f"'{recipe.name}', which it was read for", field="recipe")


def _parameter_problems(sweep: Sweep, recipe: TrainConfig, file: str) -> Iterator[Problem]:
    """Each parameter alone, beside what is constant: what goes together is seen when it is tried."""
    known = known_names(recipe)
    fixed = {name: value for name, value in _constants(sweep).items() if _is_known(name, known)}
    for parameter in sweep.space.parameters:
        field = f"parameters.{parameter.name}"
        if parameter.name == EPOCHS and not isinstance(parameter.distribution, Constant):
            yield Problem(file, "a search", "one length of all trials, `epochs`: rungs compare by it", field=field)
        elif not _is_known(parameter.name, known):
            yield Problem(file, f"'{parameter.name}'", _meant(parameter.name, known), field=field)
        elif refused := _refused(parameter, fixed, recipe):
            yield Problem(file, *refused, field=field)


def _refused(parameter: Parameter, fixed: Mapping[str, Value], recipe: TrainConfig) -> tuple[str, str] | None:
    """The first value that the recipe does not take, and what it takes."""
    for value in _probed(parameter):
        try:
            overridden(recipe, overrides({**fixed, parameter.name: value}))
        except ContractError as error:
            expected = "; ".join(problem.expected for problem in error.problems)
            return f"{value!r} among its values", f"what recipe {recipe.name} takes: {expected or error}"
    return None


def _probed(parameter: Parameter) -> list[Value]:
    distribution = parameter.distribution
    if isinstance(distribution, Numeric):
        return [distribution.at(unit) for unit in PROBES]
    return [distribution.nth(index) for index in range(int(distribution.size))]


def known_names(recipe: TrainConfig) -> list[str]:
    """Every field of the recipe by its dotted name, whether or not its file gives it."""
    return list(_names(recipe.model_dump(mode="json")))


def _names(value: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, one in value.items():
        yield f"{prefix}{key}"
        if isinstance(one, Mapping):
            yield from _names(one, f"{prefix}{key}.")


def _is_known(name: str, known: list[str]) -> bool:
    """A field, or an option of a task: which there are its head alone knows."""
    task, _, _ = name.partition(".options.")
    return name in known or (name != task and f"{task}.options" in known)


def _meant(name: str, known: list[str]) -> str:
    leaf = name.rpartition(".")[2]
    same_leaf = [one for one in known if one.rpartition(".")[2] == leaf]
    near = list(dict.fromkeys([*same_leaf, *difflib.get_close_matches(name, known, n=3)]))[:4]
    return f"a field of the recipe, such as {', '.join(near)}" if near else "a field of the recipe, like optim.lr"


def _metric_problems(sweep: Sweep, recipe: TrainConfig, file: str) -> Iterator[Problem]:
    asked = [("objective", one.metric) for one in sweep.goals.objectives]
    asked += [("constraints", one.metric) for one in sweep.goals.constraints]
    asked += [("early_stop.guardrails", Constraint.parse(one).metric) for one in sweep.early_stop.guardrails]
    tasks = ", ".join(recipe.tasks)
    for field, metric in asked:
        task, slash, name = metric.partition(AT)[0].partition("/")
        if not is_cost(metric) and not (slash and name and task in recipe.tasks):
            expected = f"<task>/<metric> of {tasks}, {REGRESSION}.<slice>, or one of {', '.join(COSTS)}"
            yield Problem(file, f"'{metric}'", expected, field=field)


def _grid_problems(sweep: Sweep, file: str) -> Iterator[Problem]:
    endless = [one.name for one in sweep.space.parameters if math.isinf(one.distribution.size)]
    for name in endless if sweep.strategy.name == "grid" else ():
        expected = "values, whole numbers, or steps of q between bounds: a grid tries each"
        yield Problem(file, "no end of values", expected, field=f"parameters.{name}")


def _budget(sweep: Sweep) -> Budget:
    """A grid ends by itself, all else by a cap: where there is none, after ``DEFAULT_TRIALS``."""
    caps = sweep.budget.model_dump(include={"max_trials", "gpu_hours", "wall_time", "max_cost_usd"})
    if sweep.strategy.name == "grid" or any(cap is not None for cap in caps.values()):
        return sweep.budget
    return sweep.budget.model_copy(update={"max_trials": DEFAULT_TRIALS})


def _at(value: Any, name: str) -> Any:
    for key in name.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
