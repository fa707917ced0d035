"""The code location: one ``Definitions``, built by a function that tests call with other resources."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from trainer.contract.train_config import TrainConfig
from training_assets import jobs
from training_assets.assets.dataset import dataset_assets
from training_assets.assets.evaluation import evaluation_chain
from training_assets.assets.release import release_chain
from training_assets.assets.shards import shard_assets
from training_assets.assets.slices import mined_slice, slice_eval_asset
from training_assets.assets.sweep import sweep_report_asset
from training_assets.assets.training import training_chain
from training_assets.assets.trial import trial_asset
from training_assets.checks import recipe_checks
from training_assets.launchers import launcher_for
from training_assets.partitions import window_partitions
from training_assets.places import Places
from training_assets.policies import with_policies
from training_assets.profiles import Profile, load_profile
from training_assets.progress import progress_logger
from training_assets.recipes import BrokenRecipe, load_recipes
from training_assets.schedules import schedules
from training_assets.sensors import sensors
from training_assets.stores.dvc import DvcStore
from training_assets.stores.events import Outbox
from training_assets.stores.fast_storage import fast_storage_of
from training_assets.stores.inbox import inbox_of
from training_assets.stores.record_store import RecordStore
from training_assets.stores.registry import registry_of
from training_assets.stores.sinks import sinks_of

log = logging.getLogger(__name__)


def build_defs(
    *,
    profile: Profile | None = None,
    resource_overrides: Mapping[str, Any] | None = None,
    recipes_dir: Path | None = None,
) -> dg.Definitions:
    """Everything that Dagster shows and runs, for one profile and one directory of recipes."""
    profile = profile or load_profile()
    recipes, broken = load_recipes(recipes_dir or profile.recipes, profile.launch)
    windows = window_partitions(profile.windows)
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [
        *dataset_assets(windows),
        *shard_assets(windows),
        mined_slice,
        *map(_broken_recipe, broken),
    ]
    for recipe in recipes.values():
        assets += _chain(recipe, windows)
    following = [jobs.staging_job(), *jobs.recipe_jobs(recipes.values())]
    tuning = jobs.tuning_jobs(recipes.values())
    return dg.Definitions(
        assets=with_policies(assets, recipes, profile),
        asset_checks=[check for recipe in recipes.values() for check in recipe_checks(recipe, windows)],
        jobs=[
            jobs.dataset_job(),
            jobs.slice_job(recipes.values()),
            *following,
            *tuning,
            jobs.sweep_request_job(recipes.values()),
            jobs.retention_job(),
            *jobs.hand_jobs(),
        ],
        schedules=schedules(recipes, profile),
        sensors=sensors(recipes, profile, following, tuning),
        resources={**_resources(profile), **(resource_overrides or {})},
        loggers={"console": progress_logger},
        # The heavy work runs in launched processes: a process for each step would only add its start.
        executor=dg.in_process_executor,
    )


def _chain(recipe: TrainConfig, windows: dg.TimeWindowPartitionsDefinition) -> list[dg.AssetsDefinition]:
    return [
        *training_chain(recipe, windows),
        *evaluation_chain(recipe, windows),
        *release_chain(recipe, windows),
        slice_eval_asset(recipe),
        trial_asset(recipe),
        sweep_report_asset(recipe),
    ]


def _resources(profile: Profile) -> dict[str, Any]:
    places = Places(profile.store, profile.checkpoint_store)
    dvc = DvcStore(profile.store)
    return {
        "profile": profile,
        "places": places,
        "inbox": inbox_of(profile.inbox),
        "launcher": launcher_for(profile),
        "io_manager": RecordStore(places),
        "dvc": dvc,
        "storage": fast_storage_of(profile, places, dvc),
        "registry": registry_of(profile),
        "outbox": Outbox(profile.store, sinks_of(profile)),
    }


def _broken_recipe(broken: BrokenRecipe) -> dg.AssetSpec:
    log.warning("left out: %s", broken.report)
    return dg.AssetSpec(
        [broken.path.stem, "broken_recipe"],
        description=f"`{broken.path.name}` adds no assets until it is mended:\n\n```\n{broken.report}\n```",
    )


defs = build_defs()
