"""``python -m trainer train``: in this process, or in ranks that it forks; what is told of its end."""

import argparse
import os
import sys
from pathlib import Path

from trainer.contract.attempts import failure_path
from trainer.contract.errors import ContractError, Problem
from trainer.contract.exit_codes import DONE, GATE_FAILED
from trainer.contract.results import RESULT_FILE, Failure, TrainResult
from trainer.contract.train_config import TrainConfig, read_config
from trainer.crossval.place import place_of_run
from trainer.engine.callbacks.gates import GateInputs
from trainer.engine.callbacks.stopping import Stop
from trainer.engine.failure import explained
from trainer.engine.fork import forked, forks_of
from trainer.engine.loop import GateFailed
from trainer.engine.run import train as train_in
from trainer.terminal.answers import Answer, error_document, refusal_of, show_refusal


def train(arguments: argparse.Namespace) -> Answer:
    """Train as asked; the result, or what ended it.

    Raises:
        ContractError: what was asked for cannot be trained.
    """
    if arguments.run_dir is None:
        arguments.run_dir = _place_of_run(arguments)
    with explained(arguments.run_dir):
        config = read_config(arguments.config, arguments.set)
        forks = forks_of(config.launch)
    code = forked(forks, lambda: _rank_of(arguments, config)) if forks > 1 else _train_here(arguments, config)
    # The leader writes the result, maybe after the others have ended.
    return Answer(_document(arguments.run_dir, code) if _leads() else None, code=code)


def _document(run_dir: Path, code: int) -> object:
    if code == DONE:
        return TrainResult.model_validate_json((run_dir / RESULT_FILE).read_bytes())
    path = failure_path(run_dir)
    if not path.is_file():
        return error_document(f"the training ended with exit code {code}")
    failure = Failure.model_validate_json(path.read_bytes())
    return {**error_document(failure.message, advice=failure.advice), "failure": failure}


def _place_of_run(arguments: argparse.Namespace) -> Path:
    """As told, or drawn once: before the ranks are forked."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        problem = Problem("--artifact-dir", "several ranks, which do not know of each other yet", "--run-dir")
        raise ContractError("the ranks have no run directory in common", [problem])
    place = place_of_run(arguments.artifact_dir, arguments.name, arguments.run_id)
    arguments.name, _, arguments.run_id = place.name.rpartition("-")
    print(f"training in {place}", flush=True)
    return place


def _rank_of(arguments: argparse.Namespace, config: TrainConfig) -> int:
    """One forked rank: nobody but the first tells what its input lacks."""
    try:
        return _train_here(arguments, config)
    except ContractError as error:
        refusal = refusal_of(error)
        if _leads():
            show_refusal(refusal)
        return refusal.code


def _train_here(arguments: argparse.Namespace, config: TrainConfig) -> int:
    """One rank."""
    try:
        with explained(arguments.run_dir) as subject:
            subject.config = config
            train_in(
                config,
                arguments.data,
                arguments.run_dir,
                arguments.run_id,
                warm_start=None if arguments.no_warm_start else arguments.warm_start or config.model.warm_start,
                copy_to=arguments.copy_to,
                inputs=GateInputs(arguments.profile, arguments.history),
                tracked={name: value for name in ("name", "group", "job_type") if (value := getattr(arguments, name))},
            )
    except Stop as stop:
        if _leads():
            print(stop, flush=True)
        return stop.exit_code
    except GateFailed as failed:
        print(f"ended by a gate: {failed}", file=sys.stderr, flush=True)
        return GATE_FAILED
    return DONE


def _leads() -> bool:
    return os.environ.get("RANK", "0") == "0"
