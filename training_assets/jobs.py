"""Jobs: what is launched together, assets or work by hand. What is in them is in ``assets/`` and ``hand_ops.py``."""

from collections.abc import Iterable
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import MAX_RETRIES_TAG

from trainer.contract.train_config import TrainConfig
from training_assets.assets.dataset import GOLDEN_FILES, golden_key
from training_assets.control import (
    DATASET_JOB,
    EVALUATE_JOB,
    PROMOTE_JOB,
    RETENTION_JOB,
    ROLLBACK_JOB,
    SLICE_JOB,
    STAGING_JOB,
    SWEEP_REQUEST_JOB,
    SWEEP_START_JOB,
    VERSION_TAG,
    job_name,
    run_tags,
    sweep_job_name,
    trial_job_name,
)
from training_assets.hand_ops import evaluate_version, promote_version, roll_back_production, start_sweep
from training_assets.ops import clear_store
from training_assets.places import Places
from training_assets.profiles import Profile
from training_assets.starting_sweeps import start_wanted
from training_assets.stores.events import Outbox, weekly_sweep
from training_assets.training_run import training_version

DATASET_ASSETS = ("dataset_version", "reference_profile", "eval_shards")
CHAIN = ("training_set", "checkpoint", "exported_model", "eval_report", "model_card", "registry_entry")
"""The assets of one recipe and window, in their order."""


def dataset_job() -> UnresolvedAssetJobDefinition:
    """A new delivery: observe it, check and pin it, describe it, stage what models are judged on."""
    golden = [golden_key(part) for part in GOLDEN_FILES]
    return dg.define_asset_job(
        DATASET_JOB,
        selection=dg.AssetSelection.assets(*golden, *DATASET_ASSETS),
        description="Checks and pins the current delivery, and stages val and test.",
    )


def staging_job() -> UnresolvedAssetJobDefinition:
    """Apart from the recipes' jobs: a range of windows is staged in one run, a window is trained in one."""
    selection = dg.AssetSelection.assets("staged_shards")
    return dg.define_asset_job(STAGING_JOB, selection=selection, description="Stages the shards of windows.")


def slice_job(recipes: Iterable[TrainConfig]) -> UnresolvedAssetJobDefinition:
    """A mined slice: staged, and every recipe's production model on it."""
    evaluations = ([recipe.name, "slice_eval"] for recipe in recipes)
    return dg.define_asset_job(
        SLICE_JOB,
        selection=dg.AssetSelection.assets("mined_slice", *evaluations),
        description="Stages a mined slice and evaluates the production models on it.",
    )


def recipe_jobs(recipes: Iterable[TrainConfig]) -> list[UnresolvedAssetJobDefinition]:
    """For each recipe: from the staged windows to a registered model."""
    return [
        dg.define_asset_job(
            job_name(recipe.name),
            selection=dg.AssetSelection.assets(*([recipe.name, name] for name in CHAIN)),
            tags={VERSION_TAG: training_version(recipe)},
            description=f"Trains, judges and registers {recipe.name} for a window: choose it and launch. In the"
            f" configuration, `{recipe.name}__checkpoint` takes overrides, weights to begin with and another profile,"
            f" `{recipe.name}__training_set` a pinned dataset version and slices. {recipe.description}",
        )
        for recipe in recipes
    ]


def tuning_jobs(recipes: Iterable[TrainConfig]) -> list[UnresolvedAssetJobDefinition]:
    """For each recipe: one trial, and the end of a sweep. `sweep_sensor` starts both."""
    does = {
        "trial": (trial_job_name, "Trains and judges one trial of a sweep of"),
        "sweep_report": (sweep_job_name, "Chooses the winner and makes the report of a sweep of"),
    }
    return [
        dg.define_asset_job(
            name(recipe.name),
            selection=dg.AssetSelection.assets([recipe.name, asset]),
            description=f"{text} {recipe.name}.",
        )
        for recipe in recipes
        for asset, (name, text) in does.items()
    ]


def sweep_request_job(recipes: Iterable[TrainConfig]) -> dg.JobDefinition:
    """Tells the recipes that want a sweep each week; a week in which it was told is not told again."""
    asking = [recipe for recipe in recipes if recipe.automation.sweep_weekly]

    @dg.op(
        description="An event `sweep.requested` for each recipe with `automation.sweep_weekly`, and the sweep where its"
        " `automation.sweep` names one; once a week."
    )
    def request_sweeps(
        context: dg.OpExecutionContext,
        outbox: dg.ResourceParam[Outbox],
        profile: dg.ResourceParam[Profile],
        places: dg.ResourceParam[Places],
    ) -> None:
        year, number, _ = datetime.now(UTC).isocalendar()
        week = f"{year}-W{number:02}"
        outbox.emit([weekly_sweep(recipe, week) for recipe in asking], context.log.warning)
        for recipe in asking:
            tune = f"{recipe.name}-weekly-{week}"
            start_wanted(recipe, profile, places, tune, "weekly", "each week", context.log.info)
        context.log.info(f"a sweep is wanted for {', '.join(recipe.name for recipe in asking) or 'no recipe'}")

    @dg.job(name=SWEEP_REQUEST_JOB, description="Tells which recipes want a sweep this week.")
    def job() -> None:
        request_sweeps()

    return job


def hand_jobs() -> list[dg.JobDefinition]:
    """What people do by hand (docs/jobs.md). With nothing configured each changes nothing."""
    once = {**run_tags("manual", "launched by hand"), MAX_RETRIES_TAG: "0"}

    @dg.job(
        name=EVALUATE_JOB,
        tags=run_tags("manual", "launched by hand"),
        description="Judges any registered version on any delivery or manifest, by your slices, beside production: a"
        " report and a page, linked from the step. Nothing else is changed. As it is: production on the pinned test.",
    )
    def evaluating() -> None:
        evaluate_version()

    @dg.job(
        name=PROMOTE_JOB,
        tags=once,
        description="Makes a registered version the production model of its project. As it is: lists the versions.",
    )
    def promoting() -> None:
        promote_version()

    @dg.job(
        name=ROLLBACK_JOB,
        tags=once,
        description="Takes production of a project back to the version before, with a reason. As it is: lists what is"
        " in production and what was before.",
    )
    def rolling_back() -> None:
        roll_back_production()

    @dg.job(
        name=SWEEP_START_JOB,
        tags=once,
        description="Starts a sweep from a sweep file; `sweep_sensor` launches its trials. As it is: lists the files.",
    )
    def starting() -> None:
        start_sweep()

    return [evaluating, promoting, rolling_back, starting]


def retention_job() -> dg.JobDefinition:
    @dg.job(
        name=RETENTION_JOB,
        description="Tells what nothing refers to any more, and with `dry_run: false` takes it away. Never what a"
        " registered version's lineage names.",
    )
    def job() -> None:
        clear_store()

    return job
