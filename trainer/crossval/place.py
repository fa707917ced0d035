"""Where a cross-validation, or a run on its own, keeps its artefacts: its name is checked or found."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from trainer.contract.cross_validation import PLAN_FILE
from trainer.contract.errors import ContractError, Problem
from trainer.contract.names import (
    PLAIN_NAME,
    cross_validation_directory,
    cross_validation_name,
    flaw_of_name,
    new_run_id,
    random_name,
    run_directory,
)


def place_of(arguments: argparse.Namespace) -> Path:
    """The directory of the cross-validation that is asked for.

    Raises:
        ContractError: a name is no name, or taken.
    """
    root: Path = arguments.artifact_dir
    name, tune, asked = arguments.name, arguments.tune, arguments.resume or arguments.only
    problems = [Problem(f"--{field}", flaw, PLAIN_NAME) for field, flaw in _flaws(name=name, tune=tune)]
    if (tune is None) != (arguments.index is None) or (tune is not None and name is not None):
        problems.append(Problem("--tune", "not both of --tune and --index", "both of them, without --name; or neither"))
    if asked and name is None and tune is None:
        problems.append(Problem("--resume and --only", "no name", "--name, or --tune and --index"))
    if problems:
        raise ContractError("the cross-validation has no usable name", problems)
    if tune is not None:
        name = cross_validation_name(tune, arguments.index)
    name = name or random_name(lambda one: (root / cross_validation_directory(one)).exists())
    directory = root / cross_validation_directory(name, tune)
    if (directory / PLAN_FILE).exists() and not asked:
        problem = Problem("--name", f"{name}, which is in {directory}", "a name that is given once")
        raise ContractError("the name is taken", [problem], "Give --resume to go on with that cross-validation.")
    return directory


def place_of_run(artifact_dir: Path, name: str | None, run_id: str | None) -> Path:
    """The directory of a run on its own; what is not given is drawn.

    Raises:
        ContractError: the name is no name, or another run's.
    """
    runs = artifact_dir / run_directory("", "").parent
    problems = [Problem("--name", flaw, PLAIN_NAME) for _, flaw in _flaws(name=name)]
    name = name or random_name(lambda one: any(runs.glob(f"{one}-*")))
    place = artifact_dir / run_directory(name, run_id or new_run_id())
    others = [path for path in runs.glob(f"{name}-{'?' * 8}") if path != place]
    problems += [Problem("--name", f"{name}, which is in {path}", "a name that is given once") for path in others[:1]]
    if problems:
        raise ContractError("the run has no usable name", problems, "Give --run-dir to go on with a run.")
    return place


def _flaws(**names: str | None) -> Iterator[tuple[str, str]]:
    for field, name in names.items():
        if name is not None and (flaw := flaw_of_name(name)):
            yield field, flaw
