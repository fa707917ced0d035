"""``python -m trainer crossval``: its arguments, and what happens in which order."""

import argparse
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from trainer.contract.attempts import STOPPED, failure_path
from trainer.contract.cross_validation import CrossValidationPlan, PlannedRun
from trainer.contract.cross_validation_settings import FoldMethod, Parallel
from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import write_text
from trainer.contract.results import Failure
from trainer.contract.run_infos import CrossValidationResult, summarise
from trainer.reporting import Reporter, reporter

SHORT = ("folds", "method", "seeds", "parallel")
"""Options that stand for ``--set cross_validation.<option>=…``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Cross-validate a recipe: one training for each fold with each seed, in "
        "ARTIFACT_DIR/_cross_validations/NAME (of a tune: ARTIFACT_DIR/TUNE/TUNE-cvINDEX). Their metrics and the score "
        "are in run_infos.parquet and score.json there. docs/cross_validation.md has the folds and the scores."
    )
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the recipe (train.yaml)")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a delivery or a data directory")
    parser.add_argument("--artifact-dir", type=Path, required=True, metavar="DIR", help="what all names lie below")
    parser.add_argument("--name", help="the cross-validation's; a readable random one when not given")
    parser.add_argument("--tune", metavar="NAME", help="the tune that it belongs to; then --index names it")
    parser.add_argument("--index", type=int, help="its number within the tune")
    parser.add_argument("--resume", action="store_true", help="go on with the one of this name, if there is one")
    parser.add_argument(
        "--only", action="append", metavar="RUN", help="train these runs alone (f1s42); of a name given"
    )
    parser.add_argument("--folds", type=int, metavar="N")
    parser.add_argument("--method", choices=get_args(FoldMethod))
    parser.add_argument("--seeds", metavar="N", help="how many (42, 21, 69, …), or which ones: [7, 8]")
    parser.add_argument("--parallel", choices=get_args(Parallel))


def run(arguments: argparse.Namespace) -> int:
    """The exit code: 0 all runs have a result, 75 stopped, else what the failed runs ended with."""
    from trainer.crossval.place import place_of
    from trainer.engine.callbacks.stopping import Stop
    from trainer.engine.failure import explained

    directory = place_of(arguments)
    try:
        with explained(directory), reporter(leads=True) as report, _alone(directory, shared=bool(arguments.only)):
            return _cross_validate(arguments, directory, report)
    except Stop as stop:
        print(stop, flush=True)
        return stop.exit_code


def _cross_validate(arguments: argparse.Namespace, directory: Path, report: Reporter) -> int:
    from trainer.contract.train_config import read_config
    from trainer.crossval.pool import Pool, refuse_torchrun
    from trainer.crossval.start import started
    from trainer.engine.callbacks.stopping import Stop

    refuse_torchrun(os.environ)
    config = read_config(arguments.config, [*_short(arguments), *arguments.set])
    plan = started(arguments, config, directory, report.info)
    chosen = _chosen(plan, arguments.only)
    report.info(f"cross-validation {plan.name} in {directory}: {_told(plan, chosen)}")
    pool = Pool(directory, plan, config, arguments, report)
    pool.train(chosen)
    if pool.stopped:
        raise Stop(f"stopped by a signal; {plan.name} goes on when it is started again with --resume", STOPPED)
    report.info(_outcome(summarise(directory), plan))
    return _exit_code(directory, pool.failures)


def _short(arguments: argparse.Namespace) -> list[str]:
    return [f"cross_validation.{name}={value}" for name in SHORT if (value := getattr(arguments, name)) is not None]


def _chosen(plan: CrossValidationPlan, only: list[str] | None) -> list[PlannedRun]:
    known = {run.key: run for run in plan.runs}
    problems = [Problem("--only", key, f"one of {', '.join(known)}") for key in only or () if key not in known]
    if problems:
        raise ContractError("the cross-validation has no such run", problems)
    return [run for run in plan.runs if only is None or run.key in only]


def _told(plan: CrossValidationPlan, chosen: list[PlannedRun]) -> str:
    folds, seeds = len({run.fold for run in plan.runs}), len({run.seed for run in plan.runs})
    all_of_them = f"{len(plan.runs)} runs, {folds} folds × {seeds} seeds"
    return all_of_them if len(chosen) == len(plan.runs) else f"{len(chosen)} of {all_of_them}"


def _outcome(result: CrossValidationResult | None, plan: CrossValidationPlan) -> str:
    if result is None:
        return f"no score yet: not all of the {len(plan.runs)} runs have ended"
    of = f"{plan.settings.score.mean} mean of {', '.join(plan.metrics)}" if len(plan.metrics) > 1 else plan.metrics[0]
    unstable = [run.run_name for run in result.runs if run.is_unstable]
    stable = f"unstable: {', '.join(unstable)}" if unstable else "stable"
    return f"score of {result.name}: {result.score:.4f} ({of}; {stable})"


def _exit_code(directory: Path, failures: dict[str, tuple[int, Failure]]) -> int:
    """0, or what the failed runs ended with where that is one and the same; ``failure.json`` names them."""
    if not failures:
        return 0
    reasons = "\n".join(f"{name}: {failure.message}" for name, (_, failure) in failures.items())
    first = next(iter(failures.values()))[1]
    message = f"{len(failures)} runs have no result:\n{reasons}"
    told = first.model_copy(update={"message": message})
    write_text(failure_path(directory), told.model_dump_json(indent=2) + "\n")
    codes = {code for code, _ in failures.values()}
    return codes.pop() if len(codes) == 1 else 1


@contextlib.contextmanager
def _alone(directory: Path, shared: bool) -> Iterator[None]:
    """One process at a time trains a cross-validation; several may each train some of its runs."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "a") as lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            problem = Problem(str(directory), "another process at work in it", "a cross-validation of its own")
            raise ContractError("the cross-validation is taken", [problem], "Wait for its end, or stop it.") from None
        yield
