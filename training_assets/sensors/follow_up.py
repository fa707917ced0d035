"""The follow-up sensor: what comes after a run, when it has ended.

======================= ==================================================================================
a delivery was checked  the windows that recipes look back on are staged, and the staging carries a plan for
                        each recipe that asks for it (``automation.on_delivery``, or ``weekly``)
windows were staged     the plans that the run carries are carried out, unless there is nothing to do
a slice was evaluated   production below target: a plan for each recipe that asks for it (``on_weak_slice``)
======================= ==================================================================================

A sensor of its own and no run status sensor of Dagster's: such a one forgets a run when following it up fails, and
knows nothing of the runs that ended before its first tick.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import PARTITION_NAME_TAG, RUN_KEY_TAG
from pydantic import ValidationError

from trainer.contract.errors import ContractError
from trainer.contract.files import digest_of
from trainer.contract.train_config import TrainConfig
from trainer.contract.windows import window_of
from training_assets.control import (
    CAUSE_TAG,
    DATASET_JOB,
    DELIVERY_TAG,
    SLICE_JOB,
    STAGING_JOB,
    WAITING,
    Cause,
    Plan,
    job_name,
    plans_of,
    staging_request,
    training_request,
)
from training_assets.partitions import window_partitions
from training_assets.places import Places
from training_assets.planning import chosen_window, misfits, windows_behind
from training_assets.profiles import Profile
from training_assets.records import MinedSlice, SliceEvaluation
from training_assets.refresh import stale_parts
from training_assets.stores.record_store import MissingRecord, RecordStore

ENDS: tuple[Literal[dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE], ...] = (
    dg.DagsterEventType.RUN_SUCCESS,
    dg.DagsterEventType.RUN_FAILURE,
)
FOLLOWED = (DATASET_JOB, STAGING_JOB, SLICE_JOB)
MOST_RUNS = 20
"""That one tick follows up; a plan then names no more slices than fit into a run's tag."""
PAGE = 500
"""Ended runs that one tick reads: most have nothing to be followed by."""
SETTLE_SECONDS = 2.0
"""Events may become visible in another order than that of their numbers."""


def follow_up_sensor(
    recipes: Mapping[str, TrainConfig], jobs: Sequence[UnresolvedAssetJobDefinition], seconds: int
) -> dg.SensorDefinition:
    """``jobs`` are those that it may start."""

    @dg.sensor(
        name="follow_up",
        jobs=jobs,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts what comes after a run: staging after a delivery, training after staging or where"
        " production is below target on a mined slice.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, profile: dg.ResourceParam[Profile], places: dg.ResourceParam[Places]
    ) -> dg.SensorResult:
        tick = FollowUp(context, recipes, profile, places)
        cursor = int(context.cursor or 0)
        for number, run in ended_runs(context.instance, cursor):
            tick.follow(run)
            cursor = number
        requests = [*tick.requests, *tick.weak_slice_requests()]
        for note in tick.notes:
            context.log.info(note)
        skipped = None if requests else "; ".join(tick.notes) or "nothing to follow up"
        return dg.SensorResult(run_requests=requests or None, skip_reason=skipped, cursor=str(cursor))

    return sensor


def ended_runs(instance: dg.DagsterInstance, after: int) -> Iterator[tuple[int, dg.DagsterRun]]:
    """The runs that ended after the event number ``after``, in that order, each with the number of its end.

    All of a page, but at most ``MOST_RUNS`` that something may come after.
    """
    ends = [
        (record.storage_id, record.timestamp, record.event_log_entry.run_id)
        for kind in ENDS
        for record in instance.fetch_run_status_changes(
            dg.RunStatusChangeRecordsFilter(kind, after_storage_id=after), limit=PAGE, ascending=True
        ).records
    ]
    page = sorted(ends)[:PAGE]
    found = instance.get_runs(dg.RunsFilter(run_ids=[run_id for _, _, run_id in page])) if page else ()
    runs, followed = {run.run_id: run for run in found}, 0
    for number, ended, run_id in page:
        if ended > time.time() - SETTLE_SECONDS or followed == MOST_RUNS:
            return
        if run := runs.get(run_id):
            followed += run.job_name in FOLLOWED
            yield number, run


@dataclass
class _WeakSlice:
    """A slice that a recipe's production model is below target on, and the run that found it."""

    run: dg.DagsterRun
    name: str
    captured: MinedSlice


@dataclass
class FollowUp:
    """What one tick makes of the runs that it is shown."""

    context: dg.SensorEvaluationContext
    recipes: Mapping[str, TrainConfig]
    profile: Profile
    places: Places
    requests: list[dg.RunRequest] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    weak: dict[str, list[_WeakSlice]] = field(default_factory=dict)

    def follow(self, run: dg.DagsterRun) -> None:
        try:
            if run.job_name == DATASET_JOB and run.is_success:
                self._dataset(run)
            elif run.job_name == STAGING_JOB and run.is_success:
                self._staging(run)
            elif run.job_name == SLICE_JOB:
                # Failed ones too: one recipe's evaluation may have failed after another's.
                self._slice(run)
        except (ContractError, MissingRecord, ValidationError) as error:
            self.notes.append(f"run {run.run_id} is not followed up: {error}")

    def _dataset(self, run: dg.DagsterRun) -> None:
        cause: Cause
        if run.tags.get(CAUSE_TAG) == "delivery":
            cause, because = "delivery", f"delivery {run.tags.get(DELIVERY_TAG)}"
            asking = [recipe for recipe in self.recipes.values() if recipe.automation.on_delivery]
        elif run.tags.get(CAUSE_TAG) == "weekly":
            cause, because = "weekly", "weekly chain"
            asking = [recipe for recipe in self.recipes.values() if recipe.automation.weekly]
        else:
            return
        dataset = RecordStore(self.places).dataset()
        if run.tags.get(RUN_KEY_TAG, digest_of(dataset.files)) != digest_of(dataset.files):
            self.notes.append(f"{because}: another dataset version is current by now")
            return
        unfit = {recipe.name: misfits(recipe, dataset, self.places) for recipe in asking}
        self.notes += [f"{name} does not fit {because}: {'; '.join(why)}" for name, why in unfit.items() if why]
        chosen = [recipe for recipe in asking if not unfit[recipe.name]]
        if not chosen:
            self.notes.append(f"{because}: no recipe asks for a training of it")
            return
        window = chosen_window(self.profile, dataset)
        plans = [Plan(recipe=recipe.name, window=window, cause=cause, because=because) for recipe in chosen]
        windows = windows_behind(self.profile, chosen, window)
        self.requests.append(staging_request(plans, windows, f"{run.run_id}:staging"))

    def _staging(self, run: dg.DagsterRun) -> None:
        for plan in plans_of(run.tags):
            if why_not := self._needless(plan):
                self.notes.append(f"{plan.recipe}, {plan.window}: {why_not}")
            else:
                self.requests.append(training_request(plan, f"{run.run_id}:{plan.recipe}"))

    def _needless(self, plan: Plan) -> str | None:
        """Why there is nothing to start for ``plan``."""
        recipe = self.recipes.get(plan.recipe)
        if recipe is None:
            return "there is no such recipe any more"
        if plan.cause == "manual":
            return None  # somebody waits for it
        asked = _without_slices(plan.run_config())
        if any(_is_same(request, plan, asked) for request in self.requests):
            return "asked for already"
        filters = dg.RunsFilter(
            job_name=job_name(plan.recipe), statuses=NOT_FINISHED_STATUSES, tags={PARTITION_NAME_TAG: plan.window}
        )
        runs = self.context.instance.get_runs(filters)
        for run in runs:
            if run.status in WAITING and _without_slices(run.run_config) == asked:
                return f"run {run.run_id} waits, and will take in what is there when it starts"
        if asked or plan.slices:
            return None
        graph = self.context.repository_def.asset_graph  # type: ignore[union-attr]
        windows = windows_behind(self.profile, [recipe], plan.window)
        stale = stale_parts(graph, self.context.instance, recipe, windows)
        if not stale:
            return "up to date"
        if runs and all(part.startswith("checkpoint") for part in stale):
            return f"run {runs[0].run_id} trains on the same data"
        return None

    def _slice(self, run: dg.DagsterRun) -> None:
        name = run.tags[PARTITION_NAME_TAG]
        records = RecordStore(self.places)
        for recipe in self.recipes.values():
            key = dg.AssetKey([recipe.name, "slice_eval"])
            if recipe.automation.on_weak_slice != "train" or not records.has(key, name):
                continue
            found = records.read(key, name, SliceEvaluation)
            if found.dagster_run_id == run.run_id and not found.targets.passed:
                mined = records.read(dg.AssetKey("mined_slice"), name, MinedSlice)
                self.weak.setdefault(recipe.name, []).append(_WeakSlice(run, name, mined))

    def weak_slice_requests(self) -> Iterator[dg.RunRequest]:
        """For each recipe one staging, whose plan is a training with all the slices that it is weak on."""
        for name, weak in self.weak.items():
            recipe, names = self.recipes[name], tuple(sorted({one.name for one in weak}))
            plan = Plan(
                recipe=name,
                window=self._window_with(one.captured for one in weak),
                cause="slice",
                because=f"production is below target on slice {', '.join(names)}",
                warm_start="production",
                slices=names,
            )
            windows = windows_behind(self.profile, [recipe], plan.window)
            yield staging_request([plan], windows, f"{weak[0].run.run_id}:{name}")

    def _window_with(self, slices: Iterable[MinedSlice]) -> str:
        """The newest window with rows, or the later one that the slices were captured in.

        A training set takes in no slice from after its window: an older window's would change with each new slice.
        """
        last = max(one.captured_until for one in slices)
        own = window_of(last, self.profile.windows.cadence).name
        newest = chosen_window(self.profile, RecordStore(self.places).dataset())
        known = window_partitions(self.profile.windows).get_partition_keys()
        return max(newest, min(own, known[-1]))


def _is_same(request: dg.RunRequest, plan: Plan, asked: object) -> bool:
    same = (request.job_name, request.partition_key) == (job_name(plan.recipe), plan.window)
    return same and _without_slices(request.run_config) == asked


def _without_slices(run_config: Mapping[str, object]) -> object:
    """What a run was asked for beside slices that must be in it: all that are there are, in every training set."""
    ops = run_config.get("ops")
    if not isinstance(ops, Mapping):
        return {}
    configs = {op: {k: v for k, v in given.get("config", {}).items() if k != "slices"} for op, given in ops.items()}
    return {op: config for op, config in configs.items() if config}
