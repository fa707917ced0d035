"""``train``: the manual trigger. In the queue of the instance where a daemon works on it, else in this process."""

import getpass
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from dagster._core.storage.tags import RUN_KEY_TAG

from trainer.contract.errors import ContractError, Problem
from trainer.contract.train_config import TrainConfig
from trainer.terminal.answers import Answer
from training_assets.assets.checkpoint import TrainingConfig, settings_of
from training_assets.control import Plan, staging_request, training_request
from training_assets.definitions import build_defs
from training_assets.failures import failures_of
from training_assets.home import instance
from training_assets.in_process import Stopped, carry_out, say, stage_windows
from training_assets.places import Places
from training_assets.planning import chosen_window, dataset_of, misfits, windows_behind
from training_assets.profiles import Profile, load_profile
from training_assets.queue import daemon_is_alive, follow, run_with_tag, submit
from training_assets.recipes import recipe_named
from training_assets.refresh import Refresher
from training_assets.stores.dvc import DvcStore
from training_assets.stores.registry import registry_of
from training_assets.summary import recipe_lines, recipe_summary
from training_assets.warm_start import choice_of

FOLLOW_UP_SECONDS = 120.0
"""In which the sensor that carries plans out has looked at least once."""


@dataclass(frozen=True)
class Asked:
    """The command line of ``train``."""

    recipe: str
    window: str | None = None
    dataset: str | None = None
    warm_start: str | None = None
    profile: str | None = None
    overrides: tuple[str, ...] = ()
    detach: bool = False


def train(asked: Asked) -> Answer:
    """Train the asked window of the recipe, whether or not it is out of date, until its model is registered.

    Raises:
        ContractError: what was asked for cannot be trained; before anything is run.
        Stopped: a run did not succeed.
    """
    profile = load_profile()
    recipe = recipe_named(profile, asked.recipe)
    plan = plan_of(profile, recipe, asked)
    with instance() as dagster_instance:
        refresher = Refresher(build_defs(profile=profile), dagster_instance)
        if daemon_is_alive(dagster_instance):
            run_id = _in_queue(refresher, profile, recipe, plan, asked.detach)
            if asked.detach:
                return Answer({"recipe": recipe.name, "window": plan.window, "run": run_id, "state": "queued"})
        else:
            if asked.detach:
                raise Stopped("no daemon is at work on the queue: start one (make ui), or leave --detach away")
            say("no daemon is at work on the queue: training in this process")
            if plan.dataset is None:
                stage_windows(refresher, profile, [recipe], plan.window)
            carry_out(refresher, plan)
    found = recipe_summary(profile, recipe.name, plan.window)
    return Answer(found, recipe_lines(found))


def plan_of(profile: Profile, recipe: TrainConfig, asked: Asked) -> Plan:
    """What was asked for, checked as far as it can be before it is run.

    Raises:
        ContractError: an override, a model to begin with, a profile, a dataset version or a window that there is not.
    """
    weights = None if asked.warm_start is None else _weights(asked.warm_start, recipe, profile)
    config = TrainingConfig(overrides=list(asked.overrides), warm_start=weights, profile=asked.profile)
    settings = settings_of(recipe, config, profile)
    places = Places(profile.store)
    dataset = dataset_of(places, DvcStore(profile.store), asked.dataset)
    if reasons := misfits(settings, dataset, places):
        problems = [Problem(f"dataset version {dataset.version[:12]}", one, "labels it learns from") for one in reasons]
        raise ContractError(f"{recipe.name} cannot learn from this data", problems)
    return Plan(
        recipe=recipe.name,
        window=chosen_window(profile, dataset, asked.window),
        cause="manual",
        because=f"{getpass.getuser()} on the command line",
        overrides=asked.overrides,
        warm_start=weights,
        dataset=dataset.version if asked.dataset else None,
        profile=asked.profile,
    )


def _weights(asked: str, recipe: TrainConfig, profile: Profile) -> str:
    """``asked`` as the run understands it, which has another working directory."""
    registry = registry_of(profile)
    if choice_of(asked, recipe.project, registry).path is None:
        known = ", ".join([*registry.versions(recipe.project), *registry.aliases(recipe.project)]) or "it has none yet"
        expected = f"a version or an alias of project {recipe.project} ({known}), or the path of a checkpoint"
        raise ContractError("nothing to begin with", [Problem("--from", f"'{asked}'", expected)])
    return str(Path(asked).resolve()) if Path(asked).is_file() else asked


def _in_queue(refresher: Refresher, profile: Profile, recipe: TrainConfig, plan: Plan, detach: bool) -> str:
    """The id of the run that was put into the queue last."""
    windows = windows_behind(profile, [recipe], plan.window)
    staged = dg.AssetKey("staged_shards")
    if plan.dataset is None and any(refresher.out_of_date([staged], window) for window in windows):
        run_id = submit(staging_request([plan], windows))
        say(f"run {run_id} stages {windows[0]} to {windows[-1]}; the training is started when it is done")
        if not detach:
            run_id = _finished(refresher.instance, run_id)
            run_id = _finished(refresher.instance, _started_after(refresher.instance, run_id, recipe.name))
    else:
        run_id = submit(training_request(plan))
        say(f"run {run_id} trains {recipe.name}, window {plan.window}")
        if not detach:
            run_id = _finished(refresher.instance, run_id)
    return run_id


def _started_after(dagster_instance: dg.DagsterInstance, run_id: str, recipe: str) -> str:
    found = run_with_tag(dagster_instance, (RUN_KEY_TAG, f"{run_id}:{recipe}"), FOLLOW_UP_SECONDS)
    if found is None:
        raise Stopped(f"staged by run {run_id}, but no training was started: is the sensor follow_up switched on?")
    return found


def _finished(dagster_instance: dg.DagsterInstance, run_id: str) -> str:
    """Follow the run; its id, or that of the run which took its place.

    Raises:
        Stopped: it did not succeed.
    """
    try:
        run = follow(dagster_instance, run_id)
    except KeyboardInterrupt:
        say(f"run {run_id} goes on; cancel it on Dagster's page (make ui)")
        raise
    if not run.is_success:
        events = [entry.dagster_event for entry in dagster_instance.all_logs(run.run_id) if entry.dagster_event]
        raise Stopped("\n".join(failures_of(events)) or f"run {run.run_id}: {run.status.value.lower()}")
    return run.run_id
