"""Recipes: the YAML files that each add a chain of assets. What is in one is ``trainer.contract.train_config``.

A file that cannot be used takes only its own chain away: it is kept as a :class:`BrokenRecipe`, which shows in the
graph as an asset with the report in its description, and in the log of the code server.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.contract.errors import ContractError, Problem
from trainer.contract.train_config import ENVIRONMENT_PREFIX, TrainConfig, read_config, with_overrides
from training_assets.profiles import Profile

RESERVED = (
    *("dataset", "golden", "sweeps", "broken_recipes"),  # groups and keys
    *("staging", "slice", "sweep_request", "sweep_start", "retention", "evaluate", "promote", "rollback"),  # jobs
)
GRAPH = ("name", "project", "owner", "window", "automation")
"""What the graph is built from: one run cannot have it otherwise."""


@dataclass(frozen=True)
class BrokenRecipe:
    """A recipe file that was left out, and the report that says why."""

    path: Path
    report: str


def load_recipes(
    directory: Path, launch: Mapping[str, Any] | None = None
) -> tuple[dict[str, TrainConfig], list[BrokenRecipe]]:
    """The recipes of ``directory`` by name, and the files that are none.

    ``launch`` has fields of their ``launch`` that the profile decides; the environment wins over it.
    """
    decided = {
        f"{ENVIRONMENT_PREFIX}LAUNCH__{name.upper()}": json.dumps(value) for name, value in (launch or {}).items()
    }
    recipes: dict[str, TrainConfig] = {}
    broken = []
    for path in sorted(directory.glob("*.yaml")):
        try:
            config = _read(path, {**decided, **os.environ})
            recipes[config.name] = config
        except (ContractError, OSError, UnicodeDecodeError) as error:
            broken.append(BrokenRecipe(path, str(error)))
    return recipes, broken


def _read(path: Path, environment: Mapping[str, str]) -> TrainConfig:
    config = read_config(path, environment=environment)
    problems = []
    if config.name != path.stem:
        problems.append(Problem(str(path), f"'{config.name}'", f"the file's name, '{path.stem}'", field="name"))
    if config.name in RESERVED:
        problems.append(Problem(str(path), f"'{config.name}'", "a name that the graph does not use", field="name"))
    if problems:
        raise ContractError(f"{path} is not a usable recipe", problems)
    return config


def recipe_named(profile: Profile, name: str) -> TrainConfig:
    """The recipe called ``name``.

    Raises:
        ContractError: there is none, or its file is not usable.
    """
    recipes, broken = load_recipes(profile.recipes, profile.launch)
    for left_out in broken:
        if left_out.path.stem == name:
            raise ContractError(f"recipe {name}", [Problem(str(left_out.path), left_out.report, "a usable recipe")])
    if name not in recipes:
        raise ContractError("no such recipe", [Problem("recipe", name, f"one of {', '.join(sorted(recipes))}")])
    return recipes[name]


def overridden(recipe: TrainConfig, overrides: Iterable[str]) -> TrainConfig:
    """``recipe`` with ``a.b=c`` applied, as one run uses it.

    Raises:
        ContractError: no such field or value, or one that only the recipe's file can change.
    """
    used = with_overrides(recipe, overrides)
    changed = [field for field in GRAPH if getattr(used, field) != getattr(recipe, field)]
    if changed:
        problems = [
            Problem("--set", str(getattr(used, field)), f"{getattr(recipe, field)}, as the graph has it", field=field)
            for field in changed
        ]
        raise ContractError(f"one run of {recipe.name} cannot change this", problems, "Change the recipe's file.")
    return used


def launched_with(recipe: TrainConfig, profile: Profile) -> TrainConfig:
    """``recipe`` with the ``launch`` that its file has under ``profile``.

    Raises:
        ContractError: the file is no recipe any more.
    """
    return recipe.model_copy(update={"launch": recipe_named(profile, recipe.name).launch})
