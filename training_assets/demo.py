"""``make demo``: from a delivery to a registered model, through Dagster, with progress a person can follow.

Only the order of things and what is said; materialising is ``refresh.py``, the summary ``summary.py``.
"""

import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from trainer.contract.delivery import FILES, file_digests
from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import digest_of
from trainer.contract.slices import read_slices
from trainer.contract.train_config import TrainConfig
from training_assets import partitions
from training_assets.control import delivery_config
from training_assets.definitions import build_defs
from training_assets.home import instance
from training_assets.jobs import CHAIN, DATASET_ASSETS, DATASET_JOB, STAGING_JOB, job_name
from training_assets.places import Places
from training_assets.profiles import REPOSITORY, Profile, load_profile
from training_assets.recipes import load_recipes
from training_assets.records import DatasetVersion
from training_assets.refresh import Refresher
from training_assets.stores.inbox import DeliveryFound, Inbox, inbox_of
from training_assets.stores.record_store import WHOLE, RecordStore
from training_assets.summary import print_dataset, print_recipe

SCENES = REPOSITORY / "var" / "deliveries" / "scenes"


def demo(data: Path | None, recipe: str | None, window: str | None) -> int:
    """Materialise everything for the newest window of a delivery; 0 when each fitting recipe is registered."""
    began = time.monotonic()
    profile = load_profile()
    delivery = put_into_inbox(data or made_scenes(), inbox_of(profile.inbox))
    say(f"delivery {profile.inbox}/{delivery.name}")
    with instance() as dagster_instance:
        refresher = Refresher(build_defs(profile=profile), dagster_instance)
        worked = refresh_dataset(refresher, delivery, DATASET_ASSETS)
        dataset = RecordStore(Places(profile.store)).read(dg.AssetKey("dataset_version"), WHOLE, DatasetVersion)
        window = chosen_window(profile, dataset, window)
        chosen = fitting_recipes(profile, dataset, recipe)
        worked |= stage_windows(refresher, profile, chosen, window)
        for one in chosen:
            worked |= run_chain(refresher, one, window)
    print_dataset(profile, dataset)
    for one in chosen:
        print_recipe(profile, one.name, window)
    took = time.monotonic() - began
    print()
    say(f"done in {took:.0f} s" if worked else f"everything is up to date: nothing was run ({took:.0f} s)")
    return 0


class Stopped(Exception):
    """A run did not succeed; the message says what to look at."""


def made_scenes() -> Path:
    """The synthetic delivery, made when it is not there."""
    if not all((SCENES / name).is_file() for name in FILES):
        say("making a synthetic driving delivery")
        command = [sys.executable, "-m", "trainer", "scenes", "--out", str(SCENES)]
        if subprocess.run(command, check=False).returncode:  # noqa: S603 - our own module
            raise Stopped("the synthetic delivery could not be made, see above")
    return SCENES


def put_into_inbox(delivery: Path, inbox: Inbox) -> DeliveryFound:
    """``delivery`` as it is in the inbox; its name there says its content, so that a changed one is another.

    Raises:
        ContractError: there is no delivery there.
    """
    missing = [
        Problem(str(delivery / name), "nothing", "this file") for name in FILES if not (delivery / name).is_file()
    ]
    if missing:
        raise ContractError(f"{delivery} is not a delivery", missing, "DATA must be the directory that holds these.")
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", delivery.resolve().name).strip("-_")[:60]
    return inbox.put(delivery, f"{stem or 'delivery'}-{digest_of(file_digests(delivery))[:8]}")


def chosen_window(profile: Profile, dataset: DatasetVersion, asked: str | None) -> str:
    """The window to train: the asked one, or the newest that has rows.

    Raises:
        ContractError: the asked one is no window, or no window has rows.
    """
    known = set(partitions.window_partitions(profile.windows).get_partition_keys())
    with_rows = [name for name in dataset.windows if name in known]
    expected = f"one of the windows with rows: {', '.join(with_rows) or 'there are none'}"
    if asked is not None and asked not in known:
        raise ContractError("no such window", [Problem("--window", asked, expected)])
    if not with_rows:
        found = f"rows in {', '.join(dataset.windows)} only"
        raise ContractError("no window to train", [Problem("delivery", found, f"rows since {profile.windows.start}")])
    return asked or max(with_rows)


def fitting_recipes(profile: Profile, dataset: DatasetVersion, asked: str | None) -> list[TrainConfig]:
    """The recipes that can learn from this delivery; says of each other one why it cannot.

    Raises:
        ContractError: none fits.
    """
    recipes, broken = load_recipes(profile.recipes, profile.launch)
    for left_out in broken:
        say(f"left out: {left_out.report}")
    if asked is not None and asked not in recipes:
        raise ContractError("no such recipe", [Problem("--recipe", asked, f"one of {', '.join(sorted(recipes))}")])
    slices = read_slices(Places(profile.store).absolute(dataset.directory) / "slices.yaml")
    reasons = {name: one.misfits(slices, dataset.labels) for name, one in recipes.items() if asked in (None, name)}
    for name, why in reasons.items():
        say(f"recipe {name}: {'fits this delivery' if not why else 'does not fit: ' + '; '.join(why)}")
    fitting = [recipes[name] for name, why in reasons.items() if not why]
    if not fitting:
        problems = [
            Problem(name, "; ".join(why), "labels that the recipe learns from") for name, why in reasons.items()
        ]
        raise ContractError("no recipe fits this delivery", problems, f"Add one to {profile.recipes}.")
    return fitting


def refresh_dataset(refresher: Refresher, delivery: DeliveryFound, assets: Sequence[str]) -> bool:
    """Check, pin and describe ``delivery``, where that was not done."""
    refresher.observe_delivery(delivery)
    config = delivery_config(delivery.name)
    return refresh(refresher, DATASET_JOB, [[dg.AssetKey(name) for name in assets]], run_config=config)


def stage_windows(refresher: Refresher, profile: Profile, recipes: Sequence[TrainConfig], window: str) -> bool:
    """Stage the windows that the recipes look back on, in one run."""
    definition = partitions.window_partitions(profile.windows)
    known = set(definition.get_partition_keys())
    count = max(one.window.count for one in recipes)
    names = [name for name in partitions.rolling_names(definition, window, count) if name in known]
    key = dg.AssetKey("staged_shards")
    stale = [name for name in names if refresher.out_of_date([key], name)]
    if stale:
        span = [name for name in names if stale[0] <= name <= stale[-1]]
        say(f"staging {len(span)} windows, {span[0]} to {span[-1]}")
        finish(refresher.run(STAGING_JOB, [key], span))
    return bool(stale)


def run_chain(refresher: Refresher, recipe: TrainConfig, window: str) -> bool:
    """The recipe's chain for one window. Its training set first: when that is as before, nothing is trained."""
    keys = [dg.AssetKey([recipe.name, name]) for name in CHAIN]
    return refresh(refresher, job_name(recipe.name), [keys[:1], keys[1:]], window)


def refresh(
    refresher: Refresher,
    job: str,
    steps: Sequence[Sequence[dg.AssetKey]],
    partition: str | None = None,
    run_config: Mapping[str, Any] | None = None,
) -> bool:
    """Materialise what is out of date, step by step: what one step leaves unchanged, the next need not run for.

    Asked again after each run: an asset is out of date only once its upstream asset has other content than before.
    """
    worked = False
    for keys in steps:
        while stale := refresher.out_of_date(keys, partition):
            now = refresher.runnable(stale, keys)
            for one in now:
                say(f"{one.key.to_user_string()}: {one.reason}")
            finish(refresher.run(job, [one.key for one in now], [partition] if partition else [], run_config))
            worked = True
    return worked


def finish(result: dg.ExecuteInProcessResult) -> None:
    """
    Raises:
        Stopped: the run did not succeed; names the gate or the asset, and what it said.
    """
    if result.success:
        return
    failed = [e for e in result.get_asset_check_evaluations() if not e.passed and e.blocking]
    if failed:
        gates = ", ".join(f"{e.asset_key.to_user_string()}: {e.check_name}" for e in failed)
        said = "; ".join(e.description or "" for e in failed)
        pages = {str(e.metadata["dashboard"].value) for e in failed if "dashboard" in e.metadata}
        raise Stopped("\n".join([f"gate not passed: {gates}. {said}", *(f"dashboard: {page}" for page in pages)]))
    messages = []
    for event in result.filter_events(lambda event: event.is_step_failure):
        error = event.step_failure_data.error_display_string if event.step_failure_data else ""
        failure = event.step_failure_data.user_failure_data if event.step_failure_data else None
        text = failure.description if failure is not None and failure.description else error
        messages.append(f"{(event.step_key or '').replace('__', '/')}: {text}")
    raise Stopped("\n".join(messages) or f"run {result.run_id} failed")


def say(text: str) -> None:
    print(f"• {text}", flush=True)
