"""Whether this machine has the devices that a launch asks for, asked before anything starts."""

from collections.abc import Mapping
from pathlib import Path

from trainer.contract.errors import ContractError, Problem
from trainer.contract.train_config import Launch


def visible_gpus(environment: Mapping[str, str]) -> int:
    """The GPUs of this machine that a launched process may use."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([one for one in visible.split(",") if one.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def processes_of(launch: Launch, gpus: int) -> int:
    """Ranks to start on a machine with ``gpus`` GPUs."""
    return launch.processes or gpus or 1


def refuse_misfit(launch: Launch, gpus: int) -> None:
    """
    Raises:
        ContractError: this machine alone, with its ``gpus`` GPUs, cannot be what ``launch`` asks for.
    """
    problems = []
    if launch.num_nodes > 1 and gpus and launch.accelerator != "cpu":
        expected = "1: this machine's GPUs belong to one node; a cluster's profile launches more"
        problems.append(_problem("num_nodes", launch.num_nodes, expected))
    if launch.accelerator == "cuda" and not gpus:
        problems.append(_problem("accelerator", "cuda", "cpu or auto: no GPU is visible on this machine"))
    on_gpus = launch.accelerator == "cuda" or (launch.accelerator == "auto" and gpus > 0)
    highest = max(launch.devices) + 1 if isinstance(launch.devices, tuple) else launch.processes or 0
    if on_gpus and 0 < gpus < highest:
        problems.append(_problem("devices", launch.devices, f"no more than the GPUs of this machine, 0 to {gpus - 1}"))
    if problems:
        advice = "Change the recipe or the profile's launch, or set TRAIN__LAUNCH__<FIELD> where Dagster runs."
        raise ContractError("the training cannot be launched here", problems, advice)


def _problem(field: str, found: object, expected: str) -> Problem:
    shown = list(found) if isinstance(found, tuple) else found
    return Problem("recipe", str(shown), expected, field=f"launch.{field}")
