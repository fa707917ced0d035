"""``sweep export``: a sweep as a strict W&B sweep file; with an account made there, with agents that work on it."""

import os
import re
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.contract.errors import ContractError, Problem
from trainer.contract.exit_codes import DONE, FAILED
from trainer.contract.files import write_text
from trainer.contract.yaml_io import dump_yaml
from trainer.terminal.answers import Answer
from training_assets.in_process import say
from training_assets.launchers import launcher_for
from training_assets.launchers.base import Handle, Launcher
from training_assets.profiles import Profile, load_profile
from training_assets.recipes import recipe_named
from training_assets.sweeps.fitting import settled
from training_assets.sweeps.sweep_file import read_sweep
from training_assets.sweeps.wandb_file import Start, create, start_agents, wandb_sweep

PASSED_ON = re.compile(r"TRAINING_ASSETS_|WANDB_BASE_URL$")
"""What agents need of the environment beside what every launched process sees. The account's key is none of it."""


@dataclass(frozen=True)
class Asked:
    """The command line. ``data`` is what runs train on; they go below the store's ``wandb-sweeps``."""

    file: Path
    recipe: str | None = None
    out: Path | None = None
    create: bool = False
    project: str | None = None
    entity: str | None = None
    agents: int = 0
    data: Path | None = None


def export(asked: Asked) -> Answer:
    """Write the file, or answer with it.

    Raises:
        ContractError: the file does not fit its recipe, or W&B does not take it.
    """
    if asked.agents and not (asked.create and asked.data):
        raise ContractError(
            "agents of what?", [Problem("--agents", str(asked.agents), "--create and --data beside it")]
        )
    profile, sweep = load_profile(), read_sweep(asked.file)
    name = asked.recipe or sweep.recipe
    if name is None:
        problem = Problem(str(asked.file), "nothing", "the recipe that is tuned (or --recipe NAME)", field="recipe")
        raise ContractError("a sweep of which recipe?", [problem])
    recipe = recipe_named(profile, name)
    found = settled(sweep, recipe, str(asked.file))
    runs = profile.store / "wandb-sweeps" / asked.file.stem
    begin = Start(str((profile.recipes / f"{name}.yaml").absolute()))
    if asked.data:
        begin = replace(begin, data=str(asked.data.absolute()), runs=str(runs.absolute()))
    if asked.agents:
        begin = replace(begin, python=sys.executable)
    text = dump_yaml(wandb_sweep(found, begin))
    if asked.out:
        write_text(asked.out, text)
    if not asked.create:
        return Answer({"file": asked.out, "yaml": text}, "" if asked.out else text.rstrip("\n"))
    path = create(found, asked.project or sweep.project or recipe.project, asked.entity or sweep.entity, begin)
    say(f"made {path}; an agent: python -m wandb agent {path}")
    code = _worked_on(path, asked, profile, runs) if asked.agents else DONE
    return Answer({"file": asked.out, "yaml": text, "sweep": path}, code=code)


def _worked_on(path: str, asked: Asked, profile: Profile, runs: Path) -> int:
    """Agents until the sweep is through; whatever ends this command ends them."""
    launcher = launcher_for(profile)
    environment = {name: value for name, value in os.environ.items() if PASSED_ON.match(name)}
    agents = start_agents(path, launcher, runs / "agents", asked.agents, environment)
    for agent in agents:
        say(f"agent: {agent.spec.log}")
    try:
        return _ended(launcher, agents)
    finally:
        for agent in agents:
            launcher.stop(agent)


def _ended(launcher: Launcher, agents: list[Handle]) -> int:
    while "running" in (states := [launcher.poll(agent).state for agent in agents]):
        time.sleep(launcher.poll_seconds)
    return DONE if set(states) == {"succeeded"} else FAILED
