"""Schedules: what the clock starts. When is for the profile to say (``schedules``), for which recipes they say
themselves (``automation``).

What costs computing time is switched off until somebody switches it on in Dagster.
"""

from collections.abc import Mapping, Sequence

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.events import RunFailureReason
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import PARTITION_NAME_TAG, RUN_FAILURE_REASON_TAG

from trainer.contract.errors import ContractError
from trainer.contract.train_config import TrainConfig
from training_assets.control import (
    DATASET_JOB,
    RETENTION_JOB,
    STAGING_JOB,
    SWEEP_REQUEST_JOB,
    VERSION_TAG,
    Plan,
    job_name,
    plans_of,
    run_tags,
    staging_request,
)
from training_assets.places import Places
from training_assets.planning import chosen_window, misfits, windows_behind
from training_assets.profiles import Profile
from training_assets.refresh import stale_parts
from training_assets.stores.inbox import Inbox
from training_assets.stores.record_store import MissingRecord, RecordStore
from training_assets.training_run import training_version

LOOKED_BACK_ON = 20
"""Runs of a window."""
SWITCH = "Switched off at first, because it costs computing time: switch it on here, or with `dagster schedule start`."


def schedules(recipes: Mapping[str, TrainConfig], profile: Profile) -> list[dg.ScheduleDefinition]:
    return [_nightly(recipes, profile), _weekly(recipes, profile), _sweep(recipes, profile), _retention(profile)]


def _nightly(recipes: Mapping[str, TrainConfig], profile: Profile) -> dg.ScheduleDefinition:
    asking = [recipe for recipe in recipes.values() if recipe.automation.nightly]

    @dg.schedule(
        name="nightly",
        job_name=STAGING_JOB,
        cron_schedule=profile.schedules.nightly,
        execution_timezone=profile.schedules.timezone,
        description="Trains the newest window of each recipe with `automation.nightly` whose training is out of date."
        f" {SWITCH}",
    )
    def nightly(
        context: dg.ScheduleEvaluationContext, profile: dg.ResourceParam[Profile], places: dg.ResourceParam[Places]
    ) -> dg.RunRequest | dg.SkipReason:
        graph = context.repository_def.asset_graph
        return nightly_request(asking, profile, places, graph, context.instance)

    return nightly


def nightly_request(
    asking: Sequence[TrainConfig],
    profile: Profile,
    places: Places,
    graph: AssetGraph,
    instance: dg.DagsterInstance,
) -> dg.RunRequest | dg.SkipReason:
    """One staging for all recipes whose training of the newest window is out of date, with a plan for each."""
    try:
        dataset = RecordStore(places).dataset()
        window = chosen_window(profile, dataset)
    except (MissingRecord, ContractError) as why:
        return dg.SkipReason(str(why))
    plans, reasons = [], []
    for recipe in asking:
        if unfit := misfits(recipe, dataset, places):
            reasons.append(f"{recipe.name} does not fit the data: {'; '.join(unfit)}")
            continue
        stale = stale_parts(graph, instance, recipe, windows_behind(profile, [recipe], window))
        if why_not := held_back(instance, recipe, window, stale):
            reasons.append(f"{recipe.name}: {why_not}")
        else:
            plans.append(Plan(recipe=recipe.name, window=window, cause="nightly", because="; ".join(stale)))
    if not plans:
        return dg.SkipReason(". ".join(reasons) or "no recipe asks for it (automation.nightly)")
    chosen = [recipe for recipe in asking if recipe.name in {plan.recipe for plan in plans}]
    return staging_request(plans, windows_behind(profile, chosen, window))


def held_back(instance: dg.DagsterInstance, recipe: TrainConfig, window: str, stale: list[str]) -> str | None:
    """Why a training that nobody asked for is not to be started now; None: it is."""
    if not stale:
        return f"window {window} is up to date"
    for run in instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)):
        planned = [(plan.recipe, plan.window) for plan in plans_of(run.tags)]
        trains = run.job_name == job_name(recipe.name) and run.tags.get(PARTITION_NAME_TAG) == window
        if trains or (recipe.name, window) in planned:
            return f"run {run.run_id} is under way"
    tags = {PARTITION_NAME_TAG: window, VERSION_TAG: training_version(recipe)}
    tried = instance.get_runs(dg.RunsFilter(job_name=job_name(recipe.name), tags=tags), limit=LOOKED_BACK_ON)
    # One that was configured, with overrides or a model to begin with, says nothing of the recipe as it stands.
    last = next((run for run in tried if not run.run_config.get("ops")), None)
    failed = last is not None and last.tags.get(RUN_FAILURE_REASON_TAG) == RunFailureReason.STEP_FAILURE.value
    if last is not None and failed and all(part.startswith("checkpoint") for part in stale):
        return f"run {last.run_id} failed on the same data with the same settings; another try would only repeat it"
    return None


def _weekly(recipes: Mapping[str, TrainConfig], profile: Profile) -> dg.ScheduleDefinition:
    asking = [recipe.name for recipe in recipes.values() if recipe.automation.weekly]

    @dg.schedule(
        name="weekly",
        job_name=DATASET_JOB,
        cron_schedule=profile.schedules.weekly,
        execution_timezone=profile.schedules.timezone,
        description="The whole chain from the newest delivery on: checked and pinned again, staged, and the newest"
        f" window trained of each recipe with `automation.weekly`. {SWITCH}",
    )
    def weekly(context: dg.ScheduleEvaluationContext, inbox: dg.ResourceParam[Inbox]) -> dg.RunRequest | dg.SkipReason:
        if not asking:
            return dg.SkipReason("no recipe asks for it (automation.weekly)")
        if all(arrival.missing for arrival in inbox.arrivals()):
            return dg.SkipReason(f"there is no complete delivery in {inbox.uri}")
        return dg.RunRequest(tags=run_tags("weekly", f"weekly chain of {', '.join(asking)}"))

    return weekly


def _sweep(recipes: Mapping[str, TrainConfig], profile: Profile) -> dg.ScheduleDefinition:
    asking = [recipe.name for recipe in recipes.values() if recipe.automation.sweep_weekly]

    @dg.schedule(
        name="weekly_sweep",
        job_name=SWEEP_REQUEST_JOB,
        cron_schedule=profile.schedules.sweep,
        execution_timezone=profile.schedules.timezone,
        description="Tells (`sweep.requested`) that better settings are to be searched for each recipe with"
        f" `automation.sweep_weekly`. {SWITCH}",
    )
    def weekly_sweep(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if not asking:
            return dg.SkipReason("no recipe asks for it (automation.sweep_weekly)")
        return dg.RunRequest(tags=run_tags("weekly", f"weekly sweep of {', '.join(asking)}"))

    return weekly_sweep


def _retention(profile: Profile) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name="weekly_retention",
        job_name=RETENTION_JOB,
        cron_schedule=profile.schedules.retention,
        execution_timezone=profile.schedules.timezone,
        run_config={"ops": {"clear_store": {"config": {"dry_run": True}}}},
        tags=run_tags("weekly", "weekly dry run of the retention"),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Reports what nothing refers to any more; removes nothing (`dry_run`).",
    )
