"""``parameters`` of a sweep file as a space: W&B's distributions, nested as deep as one likes.

Values that are lists become tuples; mappings, and lists with one in them, become their JSON.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, Strict, ValidationError

from trainer.contract.errors import BRIEF, ContractError, Problem, problems_of
from training_assets.sweeps.space import DISTRIBUTIONS, Distribution, Parameter, Space
from training_assets.sweeps.trials import Params, Value

Number = Annotated[FiniteFloat, Strict()]
NESTED = "parameters"

RANGE, NORMAL, BETA = ("min", "max"), ("mu", "sigma"), ("a", "b")
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "constant": ("value",),
    "categorical": ("values",),
    "categorical_w_probabilities": ("values", "probabilities"),
    **dict.fromkeys(("int_uniform", "uniform", "q_uniform", "log_uniform", "log_uniform_values"), RANGE),
    **dict.fromkeys(("q_log_uniform", "q_log_uniform_values", "inv_log_uniform", "inv_log_uniform_values"), RANGE),
}
OPTIONAL: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("normal", "log_normal"), NORMAL),
    **dict.fromkeys(("q_normal", "q_log_normal"), (*NORMAL, "q")),
    "beta": BETA,
    "q_beta": (*BETA, "q"),
    **dict.fromkeys(("q_uniform", "q_log_uniform", "q_log_uniform_values"), ("q",)),
}


class Written(BaseModel):
    """One parameter as it is written, whatever its distribution; ``model_fields_set`` are the keys that it has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    distribution: Literal[tuple(DISTRIBUTIONS)] = "constant"  # type: ignore[valid-type]
    value: Any = None
    values: tuple[Any, ...] = ()
    probabilities: tuple[Number, ...] = ()
    min: Number = 0.0
    max: Number = 0.0
    mu: Number = 0.0
    sigma: Number = 0.0
    a: Number = 0.0
    b: Number = 0.0
    q: Number = 0.0


def space_of(parameters: Mapping[str, Any], file: str) -> Space:
    """The space that ``parameters`` of a sweep file describe; a nested parameter is called by its dotted name.

    Raises:
        ContractError: names each parameter that is wrong.
    """
    found, problems = [], []
    for name, written in flattened(parameters):
        try:
            found.append(Parameter(name, _tried(DISTRIBUTIONS[distribution_of(written)](**_keys(written)))))
        except ValidationError as error:
            problems += [_within(name, problem) for problem in problems_of(error, file)]
        except (ValueError, ArithmeticError) as error:
            problems.append(Problem(file, BRIEF.repr(written), str(error), field=f"{NESTED}.{name}"))
    names = [parameter.name for parameter in found]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(Problem(file, "two of this name", "one: a.b and b within a are the same", field=name))
    if problems:
        raise ContractError(f"the parameters of {file} cannot be searched", problems)
    return Space(tuple(found))


def _tried(distribution: Distribution) -> Distribution:
    """What has values at its ends and in its middle: a number's bounds may lie beyond what a float can be."""
    values = [distribution.at(unit) for unit in (0.0, 0.5, 1.0)]
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise ValueError("values that are finite numbers")
    return distribution


def flattened(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each parameter by its dotted name, as it is written."""
    for name, written in parameters.items():
        if isinstance(written, Mapping) and isinstance(written.get(NESTED), Mapping) and len(written) == 1:
            yield from flattened(written[NESTED], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", written


def distribution_of(written: Any) -> str:
    """The distribution, by W&B's rules where none is named.

    Raises:
        ValidationError: a key that no distribution has.
        ValueError: keys that make none, or not the one that is named.
    """
    one = Written.model_validate(written)
    given = one.model_fields_set - {"distribution"}
    name = one.distribution if "distribution" in one.model_fields_set else _implied(given, written)
    if missing := [key for key in REQUIRED.get(name, ()) if key not in given]:
        raise ValueError(f"{' and '.join(missing)}, without which there is no distribution {name}")
    if extra := sorted(given - {*REQUIRED.get(name, ()), *OPTIONAL.get(name, ())}):
        raise ValueError(f"no {' and '.join(extra)} with distribution {name}")
    return str(name)


def _implied(given: set[str], written: Mapping[str, Any]) -> str:
    if "value" in given:
        return "constant"
    if "values" in given:
        return "categorical_w_probabilities" if "probabilities" in given else "categorical"
    if {"min", "max"} <= given:
        whole = all(isinstance(written[end], int) and not isinstance(written[end], bool) for end in RANGE)
        return "int_uniform" if whole else "uniform"
    raise ValueError("a distribution: value, values, or min and max imply one, all else names it")


def _keys(written: Mapping[str, Any]) -> dict[str, Any]:
    keys = {key: value for key, value in written.items() if key != "distribution"}
    if "value" in keys:
        keys["value"] = as_value(keys["value"])
    if "values" in keys:
        keys["values"] = tuple(map(as_value, keys["values"]))
    if "probabilities" in keys:
        keys["probabilities"] = tuple(keys["probabilities"])
    return keys


def as_value(value: Any) -> Value:
    """What YAML or a recipe has, as the value of a trial."""
    if isinstance(value, Mapping):
        return json.dumps(value, allow_nan=False)
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts = tuple(map(as_value, value))
        return json.dumps(value, allow_nan=False) if any(map(_is_json, parts)) else parts
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("finite numbers")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"text, numbers, lists or mappings, not {type(value).__name__}")


def overrides(params: Params) -> list[str]:
    """``params`` as ``--set`` takes them: ``optim.lr=0.01``."""
    return [f"{name}={_text(value)}" for name, value in params.items()]


def _text(value: Value) -> str:
    return value if isinstance(value, str) and _is_json(value) else json.dumps(value)


def _is_json(value: Value) -> bool:
    """Whether it stands for a mapping, or a list with one in it."""
    try:
        return isinstance(value, str) and value[:1] in ("{", "[") and isinstance(json.loads(value), dict | list)
    except ValueError:
        return False


def _within(name: str, problem: Problem) -> Problem:
    field = ".".join(part for part in (NESTED, name, problem.field) if part)
    return Problem(problem.file, problem.found, problem.expected, problem.line, field)
