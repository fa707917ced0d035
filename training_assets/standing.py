"""Where everything stands: what waits, runs and failed, and what each window, slice and delivery has.

Read from Dagster's instance, the records and the inbox; nothing is loaded of the graph, and nothing is changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorState, TickStatus
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES, NOT_FINISHED_STATUSES
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    AUTO_RETRY_RUN_ID_TAG,
    PARTITION_NAME_TAG,
)

from training_assets import partitions
from training_assets.control import BECAUSE_TAG, CAUSE_TAG, WAITING
from training_assets.failures import failures_of
from training_assets.places import Places
from training_assets.queue import daemon_is_alive
from training_assets.records import Checkpoint, DatasetVersion, Registered, ShardList, SliceEvaluation
from training_assets.stores.inbox import Arrival, Inbox, Incomplete
from training_assets.stores.record_store import MissingRecord, RecordStore
from training_assets.stores.registry import Registry

FAILED_DAYS = 7
FAILED_RUNS = 100
READ_DELIVERIES = 5


@dataclass(frozen=True)
class RunState:
    """A run that waits, runs or failed; ``why`` it waits or failed. ``what`` is its partition or range of them."""

    state: str
    run_id: str
    job: str
    what: str
    cause: str
    because: str
    since: datetime
    why: str = ""


@dataclass(frozen=True)
class Switch:
    """A sensor or schedule; ``problem`` is what its newest tick failed with."""

    name: str
    kind: str
    on: bool
    last_tick: datetime | None
    problem: str = ""


@dataclass(frozen=True)
class Trained:
    """What a recipe has for a window: the run of its checkpoint, and the version that was registered of it."""

    run_id: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class WindowState:
    """A window's rows in the current dataset version, the samples that are staged of it, and what was trained."""

    window: str
    rows: int
    staged: int | None
    recipes: Mapping[str, Trained]


@dataclass(frozen=True)
class SliceState:
    """A mined slice: the samples that are staged of it, and what each recipe's production model is worth on it."""

    name: str
    staged: int | None
    recipes: Mapping[str, str]


@dataclass(frozen=True)
class DeliveryState:
    """A delivery in the inbox: ``current``, ``complete`` or ``incomplete``, and then why."""

    name: str
    arrived: datetime
    state: str
    why: str = ""


def runs(instance: dg.DagsterInstance) -> list[RunState]:
    """What waits (the next one first), what runs, and what failed of late and was not mended since."""
    records = instance.get_run_records(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES))
    waiting = [record for record in records if record.dagster_run.status in WAITING]
    running = [record for record in records if record.dagster_run.status not in WAITING]
    busy = [record.dagster_run for record in running if record.dagster_run.status in IN_PROGRESS_RUN_STATUSES]
    # As the queue takes them: by priority, then by age.
    waiting.sort(key=lambda record: (-int(record.dagster_run.tags.get("dagster/priority", 0)), record.storage_id))
    alive = daemon_is_alive(instance)
    return [
        *(_run("waiting", record, _waits_for(record.dagster_run, busy, alive, instance)) for record in waiting),
        *(_run("running", record) for record in running),
        *(_run("failed", record, _failure(record.dagster_run, instance)) for record in _failed(instance)),
    ]


def _run(state: str, record: dg.RunRecord, why: str = "") -> RunState:
    run, tags = record.dagster_run, record.dagster_run.tags
    ends = [tags[tag] for tag in (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG) if tag in tags]
    return RunState(
        state=state,
        run_id=run.run_id,
        job=run.job_name,
        what=tags.get(PARTITION_NAME_TAG) or " to ".join(dict.fromkeys(ends)),
        cause=tags.get(CAUSE_TAG, "manual"),
        because=tags.get(BECAUSE_TAG, ""),
        since=record.update_timestamp if state == "failed" else record.create_timestamp,
        why=why,
    )


def _waits_for(run: dg.DagsterRun, busy: Sequence[dg.DagsterRun], alive: bool, instance: dg.DagsterInstance) -> str:
    if not alive:
        return "no daemon is at work on the queue: start one with make ui"
    queue = instance.get_concurrency_config().run_queue_config
    if queue is not None and 0 <= queue.max_concurrent_runs <= len(busy):
        return f"{len(busy)} runs are in progress, at most {queue.max_concurrent_runs} may be"
    limits = {limit.name: limit.limit for limit in instance.event_log_storage.get_pool_limits()}
    for pool in _pools(run):
        holders = [one.run_id for one in busy if pool in _pools(one)]
        if len(holders) >= limits.get(pool, 1) and holders:
            return f"pool {pool} is held by run {', '.join(holders)}"
    return "its turn is next"


def _pools(run: dg.DagsterRun) -> frozenset[str]:
    return frozenset((run.run_op_concurrency.all_pools if run.run_op_concurrency else None) or ())


def _failed(instance: dg.DagsterInstance) -> Iterator[dg.RunRecord]:
    since = datetime.now(UTC) - timedelta(days=FAILED_DAYS)
    ended = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS], updated_after=since),
        limit=FAILED_RUNS,
    )
    mended = set()
    for record in ended:  # the newest first
        run = record.dagster_run
        about = (run.job_name, *(run.tags.get(tag) for tag in (PARTITION_NAME_TAG, ASSET_PARTITION_RANGE_END_TAG)))
        if run.is_success:
            mended.add(about)
        elif about not in mended and AUTO_RETRY_RUN_ID_TAG not in run.tags:
            mended.add(about)
            yield record


def _failure(run: dg.DagsterRun, instance: dg.DagsterInstance) -> str:
    kinds = {
        dg.DagsterEventType.STEP_FAILURE,
        dg.DagsterEventType.RUN_FAILURE,
        dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    }
    entries = instance.all_logs(run.run_id, of_type=kinds)
    return "\n".join(failures_of(entry.dagster_event for entry in entries if entry.dagster_event))


def switches(instance: dg.DagsterInstance, known: Mapping[str, tuple[str, bool]]) -> list[Switch]:
    """The sensors and schedules ``known`` by name (kind, whether it is on by default), as somebody switched them."""
    states = {state.instigator_name: state for state in instance.all_instigator_state()}
    return [_switch(name, kind, on, states.get(name), instance) for name, (kind, on) in known.items()]


def _switch(name: str, kind: str, on: bool, state: InstigatorState | None, instance: dg.DagsterInstance) -> Switch:
    if state is None:
        return Switch(name, kind, on, None)
    tick = next(iter(instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)), None)
    failed = tick is not None and tick.status == TickStatus.FAILURE and tick.error is not None
    return Switch(
        name=name,
        kind=kind,
        on=state.is_running,
        last_tick=datetime.fromtimestamp(tick.timestamp, UTC) if tick else None,
        problem=tick.error.message.strip() if tick is not None and failed and tick.error is not None else "",
    )


def current_dataset(places: Places) -> DatasetVersion | None:
    try:
        return RecordStore(places).dataset()
    except MissingRecord:
        return None


def windows(dataset: DatasetVersion, recipes: Sequence[str], places: Places, registry: Registry) -> list[WindowState]:
    """Each window with rows, the newest first."""
    records = RecordStore(places)
    key = dg.AssetKey("staged_shards")
    return [
        WindowState(
            window=window,
            rows=rows,
            staged=records.read(key, window, ShardList).samples if records.has(key, window) else None,
            recipes={name: _trained(name, window, records, registry) for name in recipes},
        )
        for window, rows in sorted(dataset.windows.items(), reverse=True)
    ]


def _trained(recipe: str, window: str, records: RecordStore, registry: Registry) -> Trained:
    checkpoint, entry = (dg.AssetKey([recipe, name]) for name in ("checkpoint", "registry_entry"))
    if not records.has(checkpoint, window):
        return Trained()
    run_id = records.read(checkpoint, window, Checkpoint).run_id
    if not records.has(entry, window):
        return Trained(run_id)
    registered = records.read(entry, window, Registered)
    # A later training may not have got through its gates: the version is then that of the one before.
    version = registry.entry(registered.project, registered.version)
    same = version is not None and version.lineage.run.run_id == run_id
    return Trained(run_id, registered.version if same else None)


def slices(instance: dg.DagsterInstance, recipes: Sequence[str], places: Places) -> list[SliceState]:
    """Each mined slice, by name."""
    records, key = RecordStore(places), dg.AssetKey("mined_slice")
    return [
        SliceState(
            name=name,
            staged=records.read(key, name, ShardList).samples if records.has(key, name) else None,
            recipes={recipe: text for recipe in recipes if (text := _evaluated(recipe, name, records))},
        )
        for name in sorted(instance.get_dynamic_partitions(str(partitions.slices.name)))
    ]


def _evaluated(recipe: str, name: str, records: RecordStore) -> str:
    key = dg.AssetKey([recipe, "slice_eval"])
    if not records.has(key, name):
        return ""
    verdict = records.read(key, name, SliceEvaluation).targets
    return "targets met" if verdict.passed else f"below target: {verdict.failures}"


def deliveries(inbox: Inbox, dataset: DatasetVersion | None) -> list[DeliveryState]:
    """Every delivery in the inbox, the newest first; only the newest ones are read, the others go by their looks."""
    arrivals = inbox.arrivals()[::-1]
    return [
        *(_read(inbox, arrival, dataset) for arrival in arrivals[:READ_DELIVERIES]),
        *(_by_its_looks(arrival) for arrival in arrivals[READ_DELIVERIES:]),
    ]


def _read(inbox: Inbox, arrival: Arrival, dataset: DatasetVersion | None) -> DeliveryState:
    found = inbox.look(arrival.name)
    if isinstance(found, Incomplete):
        return DeliveryState(arrival.name, arrival.arrived, "incomplete", found.missing)
    current = dataset is not None and dict(found.digests) == dataset.files
    return DeliveryState(arrival.name, arrival.arrived, "current" if current else "complete")


def _by_its_looks(arrival: Arrival) -> DeliveryState:
    state = "incomplete" if arrival.missing else "complete"
    return DeliveryState(arrival.name, arrival.arrived, state, arrival.missing)
