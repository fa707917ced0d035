"""``profile check``: what is missing before a profile can launch anything, told before anything costs money."""

import os
from collections.abc import Iterator
from pathlib import Path

from trainer.contract.errors import ContractError, Problem
from trainer.contract.train_config import TrainConfig
from training_assets.launchers import Launcher, LaunchSpec, launcher_for
from training_assets.launchers.base import Estimate
from training_assets.profiles import Profile, load_profile
from training_assets.recipes import load_recipes
from training_assets.stores.inbox import InboxUnreachable, inbox_of
from training_assets.stores.objects import StoreUnreachable
from training_assets.stores.registry import registry_of


def check(name: str) -> int:
    """Print what is missing, and what an hour of each recipe costs; 0 when nothing is missing.

    Raises:
        ContractError: there is no such profile, or it is not usable.
    """
    profile = load_profile(name)
    launcher = launcher_for(profile)
    problems = [*_places(profile), *launcher.check()]
    print(f"profile {profile.name}: launcher {profile.launcher}, store {profile.store}, inbox {profile.inbox}")
    for problem in problems:
        print(f"  missing: {problem}")
    recipes, broken = load_recipes(profile.recipes, profile.launch)
    for recipe in recipes.values():
        print(f"  {recipe.name}: {_price(launcher, recipe)}")
    for one in broken:
        print(f"  {one.path.name} is not usable: {one.report.splitlines()[0]}")
    print(f"{len(problems)} things are missing" if problems else "nothing is missing")
    return 2 if problems else 0


def described(estimate: Estimate) -> str:
    gpus = f", {estimate.gpus} GPUs" if estimate.gpus else ""
    price = "no price is known" if estimate.usd_per_hour is None else f"{estimate.usd_per_hour:.2f} US dollars an hour"
    return f"{estimate.nodes} × {estimate.instance_type}{gpus}: {price}"


def _places(profile: Profile) -> Iterator[Problem]:
    where = f"profile {profile.name}"
    # On this machine the store is made when it is first needed; a file system that is not mounted must not be.
    place = profile.store if profile.launcher != "local" else _nearest(profile.store)
    if not os.access(place, os.W_OK | os.X_OK):
        found = f"{place}, which " + ("cannot be written to" if place.exists() else "does not exist")
        yield Problem(where, found, "a directory to write to, the one that the nodes share", field="store")
    if not profile.recipes.is_dir():
        yield Problem(where, str(profile.recipes), "a directory with recipes", field="recipes")
    try:
        inbox_of(profile.inbox).arrivals()
    except (InboxUnreachable, ContractError) as error:
        yield Problem(where, f"{profile.inbox}: {error}", "an inbox that can be read", field="inbox")
    try:
        registry_of(profile).projects()
    except (StoreUnreachable, ContractError) as error:
        yield Problem(where, f"{profile.archive}: {error}", "an archive that can be read", field="archive")


def _nearest(path: Path) -> Path:
    return path if path.exists() else _nearest(path.parent)


def _price(launcher: Launcher, recipe: TrainConfig) -> str:
    spec = LaunchSpec(("train",), Path(), "estimate", launch=recipe.launch, project=recipe.project)
    estimate = launcher.estimate(spec)
    limit = recipe.launch.max_run_seconds
    cost = estimate.cost(limit) if limit else None
    most = "" if cost is None else f", at most {cost:.2f} for {limit:.0f} s"
    return described(estimate) + most
