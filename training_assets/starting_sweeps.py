"""Starting a sweep: checked as a whole, then written down. Who looks for sweeps that were started goes on with it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of, write_bytes, write_text
from trainer.contract.names import PLAIN_NAME, flaw_of_name, random_name
from trainer.contract.train_config import TrainConfig
from trainer.contract.yaml_io import dump_yaml
from training_assets.launchers import Launcher, LaunchSpec, launcher_for
from training_assets.places import Places
from training_assets.profiles import Profile
from training_assets.recipes import recipe_named
from training_assets.records import EvalShards, TrainingSet
from training_assets.stores.record_store import WHOLE, MissingRecord, RecordStore
from training_assets.sweeps.budget import budget_problems
from training_assets.sweeps.fitting import settled
from training_assets.sweeps.place import (
    PLAN_FILE,
    RECIPE_FILE,
    SETTLED_FILE,
    Cause,
    SweepPlace,
    SweepPlan,
    place_of,
    started,
)
from training_assets.sweeps.sweep_file import SWEEP_FILE, read_sweep


@dataclass(frozen=True)
class AskedSweep:
    """A sweep of ``recipe``, whose file is ``recipe_file``, as ``file`` says. ``tune`` is its name.

    ``window``: one with a training set; None: the file's, else the newest.
    """

    file: Path
    recipe: TrainConfig
    recipe_file: Path
    tune: str
    cause: Cause
    because: str
    window: str | None = None


def start(asked: AskedSweep, places: Places, launcher: Launcher) -> SweepPlace:
    """Write the sweep down, so that it is gone on with.

    Raises:
        ContractError: the file, the name or the data is not fit for it. Nothing was started.
    """
    sweep = settled(read_sweep(asked.file), asked.recipe, str(asked.file))
    place = _free(places, asked.tune)
    estimate = launcher.estimate(LaunchSpec((), place.root, "estimate", launch=asked.recipe.launch))
    if problems := list(budget_problems(sweep.budget, estimate, str(asked.file))):
        raise ContractError("a cap of the budget could not be kept", problems)
    training_set, eval_shards = data_of(places, asked.recipe, asked.window or sweep.window)
    plan = SweepPlan(
        tune=asked.tune,
        recipe=asked.recipe.name,
        recipe_sha256=sha256_of(asked.recipe_file),
        window=training_set.window,
        cause=asked.cause,
        because=asked.because,
        started_at=datetime.now(UTC),
        training_set=training_set,
        eval_shards=eval_shards,
    )
    write_bytes(place.root / SWEEP_FILE, asked.file.read_bytes())
    write_text(place.root / RECIPE_FILE, dump_yaml(asked.recipe.model_dump(mode="json")))
    place.keep(SETTLED_FILE, sweep)
    place.keep(PLAN_FILE, plan)  # last: with it the sweep is started
    return place


@dataclass(frozen=True)
class AskedByHand:
    """What a person says of a sweep: its file, and where the file does not say it, what is tuned; ``because`` of what.

    ``name`` is its own, None for a readable random one. ``window`` is as in :class:`AskedSweep`.
    """

    file: Path
    because: str
    recipe: str | None = None
    name: str | None = None
    window: str | None = None


def start_by_hand(
    asked: AskedByHand,
    profile: Profile,
    launcher: Launcher,
    window_of: Callable[[TrainConfig, str | None], str | None] = lambda recipe, window: window,
) -> SweepPlace:
    """Start the sweep that a person asks for, at the command line or in Dagster.

    ``window_of`` may see to it that the recipe has a training set of the window; asked once the file is known to fit.

    Raises:
        ContractError: the file, the name or the data is not fit for it. Nothing was started.
    """
    sweep = read_sweep(asked.file)
    name = asked.recipe or sweep.recipe
    if name is None:
        problem = Problem(str(asked.file), "nothing", "the recipe that is tuned, here or beside it", field="recipe")
        raise ContractError("a sweep of which recipe?", [problem])
    recipe = recipe_named(profile, name)
    settled(sweep, recipe, str(asked.file))
    wanted = AskedSweep(
        file=asked.file,
        recipe=recipe,
        recipe_file=profile.recipes / f"{recipe.name}.yaml",
        tune=asked.name or random_name(),
        cause="manual",
        because=asked.because,
        window=window_of(recipe, asked.window or sweep.window),
    )
    return start(wanted, Places(profile.store), launcher)


def start_wanted(
    recipe: TrainConfig,
    profile: Profile,
    places: Places,
    tune: str,
    cause: Cause,
    because: str,
    say: Callable[[str], None],
) -> None:
    """Start the sweep that the recipe names for when one is wanted; once, whoever wants it again under this name.

    Where it cannot be started that is said, and nothing else fails: whoever wants it has told so as well.
    """
    if recipe.automation.sweep is None or started(place_of(places, tune)):
        return
    file, recipe_file = profile.sweeps / recipe.automation.sweep, profile.recipes / f"{recipe.name}.yaml"
    try:
        asked = AskedSweep(file, recipe, recipe_file, tune, cause, because)
        place = start(asked, places, launcher_for(profile))
    except (ContractError, OSError) as error:
        say(f"no sweep of {recipe.name} was started: {error}")
    else:
        say(f"sweep {place.tune} of {recipe.name} is started: {because}")


def data_of(places: Places, recipe: TrainConfig, window: str | None) -> tuple[TrainingSet, EvalShards]:
    """The training set of ``window``, by default the newest that there is, and what models are judged on.

    Raises:
        ContractError: there is none.
    """
    records = RecordStore(places)
    key = dg.AssetKey([recipe.name, "training_set"])
    known = sorted(path.stem for path in records.path(key, "any").parent.glob("*.json"))
    if not known or (window is not None and window not in known):
        expected = f"one with a training set: {', '.join(known) or 'there is none'}"
        advice = f"Make it: python -m training_assets train {recipe.name}, or materialise {recipe.name}/training_set."
        raise ContractError("nothing to sweep on", [Problem("window", window or "no window", expected)], advice)
    try:
        training_set = records.read(key, window or known[-1], TrainingSet)
        return training_set, records.read(dg.AssetKey("eval_shards"), WHOLE, EvalShards)
    except MissingRecord as why:
        raise ContractError("nothing to sweep on", [Problem("store", str(why), "staged data")]) from None


def _free(places: Places, tune: str) -> SweepPlace:
    if flaw := flaw_of_name(tune):
        raise ContractError("not a name of a sweep", [Problem("name", flaw, PLAIN_NAME)])
    place = place_of(places, tune)
    if started(place):
        found, since = place.plan.recipe, place.plan.started_at
        problem = Problem("name", f"{tune}, a sweep of {found} since {since:%Y-%m-%d %H:%M}", "another name")
        raise ContractError("this name is taken", [problem])
    return place
