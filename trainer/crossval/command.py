"""``python -m trainer crossval``: what happens in which order."""

import argparse
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from trainer.contract.attempts import failure_path
from trainer.contract.cross_validation import CrossValidationPlan, PlannedRun
from trainer.contract.errors import ContractError, Problem
from trainer.contract.exit_codes import STOPPED
from trainer.contract.files import write_text
from trainer.contract.results import Failure
from trainer.contract.run_infos import CrossValidationResult, summarise
from trainer.reporting import Reporter, reporter
from trainer.terminal.answers import Answer, error_document

SHORT = ("folds", "method", "seeds", "parallel")
"""Options that stand for ``--set cross_validation.<option>=…``."""


def run(arguments: argparse.Namespace) -> Answer:
    """Its code: 0 all runs have a result, 75 stopped, else what the failed runs ended with."""
    from trainer.crossval.place import place_of
    from trainer.engine.callbacks.stopping import Stop
    from trainer.engine.failure import explained

    directory = place_of(arguments)
    try:
        with explained(directory), reporter(leads=True) as report, _alone(directory, shared=bool(arguments.only)):
            return _cross_validate(arguments, directory, report)
    except Stop as stop:
        return Answer(error_document(str(stop)), str(stop), stop.exit_code)


def _cross_validate(arguments: argparse.Namespace, directory: Path, report: Reporter) -> Answer:
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
    result = summarise(directory)
    report.info(_outcome(result, plan))
    code = _exit_code(directory, pool.failures)
    return Answer({"name": plan.name, "directory": directory, "result": result}, code=code)


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
