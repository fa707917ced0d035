"""``profile check``: what is missing before a profile can launch anything, told before anything costs money."""

import os
from collections.abc import Iterator
from pathlib import Path

from trainer.contract.errors import ContractError, Problem
from trainer.contract.exit_codes import BAD_INPUT, DONE
from trainer.contract.train_config import TrainConfig
from trainer.terminal.answers import Answer
from training_assets.launchers import Launcher, LaunchSpec, launcher_for
from training_assets.launchers.base import Estimate
from training_assets.profiles import Profile, load_profile
from training_assets.recipes import load_recipes
from training_assets.stores.inbox import InboxUnreachable, inbox_of
from training_assets.stores.objects import StoreUnreachable
from training_assets.stores.registry import registry_of


def check(name: str) -> Answer:
    """What is missing, and what an hour of each recipe costs.

    Raises:
        ContractError: there is no such profile, or it is not usable.
    """
    profile = load_profile(name)
    launcher = launcher_for(profile)
    problems = [*_places(profile), *launcher.check()]
    recipes, broken = load_recipes(profile.recipes, profile.launch)
    prices = {recipe.name: _estimate(launcher, recipe) for recipe in recipes.values()}
    unusable = {one.path.name: one.report.splitlines()[0] for one in broken}
    lines = [
        f"profile {profile.name}: launcher {profile.launcher}, store {profile.store}, inbox {profile.inbox}",
        *(f"  missing: {problem}" for problem in problems),
        *(f"  {recipe.name}: {_price(prices[recipe.name], recipe)}" for recipe in recipes.values()),
        *(f"  {name} is not usable: {why}" for name, why in unusable.items()),
        f"{len(problems)} things are missing" if problems else "nothing is missing",
    ]
    document = {
        "profile": profile.name,
        "launcher": profile.launcher,
        "store": profile.store,
        "inbox": profile.inbox,
        "missing": problems,
        "recipes": prices,
        "unusable": unusable,
    }
    return Answer(document, lines, BAD_INPUT if problems else DONE)


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


def _estimate(launcher: Launcher, recipe: TrainConfig) -> Estimate:
    return launcher.estimate(LaunchSpec(("train",), Path(), "estimate", launch=recipe.launch, project=recipe.project))


def _price(estimate: Estimate, recipe: TrainConfig) -> str:
    limit = recipe.launch.max_run_seconds
    cost = estimate.cost(limit) if limit else None
    most = "" if cost is None else f", at most {cost:.2f} for {limit:.0f} s"
    return described(estimate) + most
