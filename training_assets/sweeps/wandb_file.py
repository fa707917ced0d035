"""A sweep as W&B runs it: a file that passes W&B's own schema, made there, and agents that work on it.

W&B then searches, with what it has of what our file says: no constraints, no budget but a number of runs, one
objective. Each of its agents starts ``wandb_trial.py`` for each run, which trains through our launcher.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.contract.errors import ContractError, Problem
from training_assets.launchers import Handle, Launcher, LaunchSpec
from training_assets.launchers.session import new_attempt
from training_assets.sweeps.parameters import distribution_of, flattened
from training_assets.sweeps.settings import StrategyName
from training_assets.sweeps.sweep_file import Sweep

TRIAL_MODULE = "training_assets.sweeps.wandb_trial"
TRIAL_FILE = "training_assets/sweeps/wandb_trial.py"
METHODS: Mapping[StrategyName, str] = {
    "random": "random",
    "grid": "grid",
    "bayes": "bayes",
    "asha": "random",
    "hyperband": "random",
    "bayes+asha": "bayes",
    "pbt": "random",
}
EARLY: frozenset[StrategyName] = frozenset({"asha", "hyperband", "bayes+asha"})
OF_EXPONENTS = {
    "log_uniform": "log_uniform_values",
    "q_log_uniform": "q_log_uniform_values",
    "inv_log_uniform": "inv_log_uniform_values",
}
"""W&B's older distributions, whose bounds are exponents; it refuses them in new sweeps."""


@dataclass(frozen=True)
class Start:
    """What a run is started with: the recipe's file, a data directory or a delivery, where run directories go, and the
    interpreter (W&B's own is the first ``python`` on the agent's path).
    """

    recipe_file: str | None = None
    data: str = "${envvar:SWEEP_DATA}"
    runs: str = "${envvar:SWEEP_RUNS}"
    python: str = "${interpreter}"


def wandb_sweep(sweep: Sweep, start: Start | None = None) -> dict[str, Any]:
    """``sweep`` as a strict W&B sweep file. Its own ``program`` and ``command`` stay where it has any."""
    own = {"program": sweep.program, "command": list(sweep.command) if sweep.command else None}
    started = own if any(own.values()) else {"program": TRIAL_FILE, "command": _command(sweep, start or Start())}
    found = {
        **{key: getattr(sweep, key) for key in ("name", "description", "project", "entity", "job", "image_uri")},
        **started,
        "method": METHODS[sweep.strategy.name],
        "metric": _metric(sweep),
        "early_terminate": _early_terminate(sweep),
        "run_cap": sweep.budget.max_trials,
        "parameters": {name: _parameter(written) for name, written in flattened(sweep.parameters)},
    }
    return {key: value for key, value in found.items() if value}


def create(sweep: Sweep, project: str, entity: str | None = None, start: Start | None = None) -> str:
    """Make the sweep in W&B, with the account that is logged in; its path, ``entity/project/id``.

    Raises:
        ContractError: nobody is logged in, or W&B does not take it.
    """
    import wandb

    try:
        found = wandb.sweep(wandb_sweep(sweep, start), entity=entity, project=project)
    except wandb.Error as error:
        problem = Problem("W&B", str(error), "an account that is logged in: WANDB_API_KEY, or `wandb login`")
        raise ContractError("the sweep cannot be made", [problem]) from None
    return "/".join(part for part in (entity, project, found) if part)


def start_agents(
    path: str, launcher: Launcher, directory: Path, agents: int = 1, environment: Mapping[str, str] | None = None
) -> list[Handle]:
    """``wandb agent`` on the sweep at ``path``, ``agents`` times, each in a directory of its own.

    Launched processes do not see our secrets: an agent finds its key where ``wandb login`` put it.
    """
    specs = [
        LaunchSpec(
            ("agent", path),
            run_dir=(directory / f"agent-{number}").absolute(),
            attempt=new_attempt(),
            module="wandb",
            environment=dict(environment or {}),
        )
        for number in range(agents)
    ]
    for spec in specs:
        spec.run_dir.mkdir(parents=True, exist_ok=True)
    return [launcher.launch(spec) for spec in specs]


def _command(sweep: Sweep, start: Start) -> list[str]:
    # W&B's Hyperband counts the values of the metric: one an epoch.
    sets = ["training.eval_every=1", *([f"training.epochs={sweep.epochs}"] if sweep.epochs else [])]
    recipe = start.recipe_file or f"recipes/{sweep.recipe}.yaml"
    run = ["${env}", start.python, "-m", TRIAL_MODULE, recipe, "--data", start.data, "--runs", start.runs]
    # As JSON: the agent's other forms of the parameters lose what is null, and the types within lists.
    return [*run, *(part for one in sets for part in ("--set", one)), "--params", "${args_json}"]


def _metric(sweep: Sweep) -> dict[str, Any] | None:
    """The first objective: W&B searches for several only with a scheduler of one's own."""
    if not sweep.objective:
        return None
    first = sweep.goals.first
    return {"name": first.metric, "goal": first.direction} | ({} if sweep.target is None else {"target": sweep.target})


def _early_terminate(sweep: Sweep) -> dict[str, Any] | None:
    stops = sweep.strategy.name in EARLY or (sweep.strategy.name == "grid" and sweep.early_terminate)
    if not stops or not sweep.objective:
        return None
    return {"type": "hyperband", "min_iter": sweep.early_stop.first_rung, "eta": sweep.early_stop.eta}


def _parameter(written: Mapping[str, Any]) -> dict[str, Any]:
    name, keys = distribution_of(written), dict(written)
    if name in OF_EXPONENTS:
        ends = [math.exp(keys["min"]), math.exp(keys["max"])]
        if name == "inv_log_uniform":
            ends = [1 / end for end in reversed(ends)]
        keys |= {"min": ends[0], "max": ends[1], "distribution": OF_EXPONENTS[name]}
    if name == "int_uniform":
        keys |= {end: int(keys[end]) for end in ("min", "max")}
    if "min" in keys and keys["min"] == keys["max"]:
        return {"value": keys["min"]}
    # W&B's client takes bounds for ambiguous of which one is whole, where the distribution is not named.
    return {"distribution": name, **keys} if "min" in keys else keys
