"""The delivery sensor: each new content of a delivery is observed and checked once, one delivery after the other."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import RUN_KEY_TAG
from pydantic import BaseModel, ConfigDict, ValidationError

from training_assets.assets.dataset import GOLDEN_FILES, golden_key
from training_assets.control import DATASET_JOB, delivery_request
from training_assets.jobs import DATASET_ASSETS
from training_assets.places import Places
from training_assets.planning import RECORD_FILE
from training_assets.stores.inbox import Arrival, DeliveryFound, Inbox, Incomplete


def delivery_sensor(seconds: int) -> dg.SensorDefinition:
    @dg.sensor(
        name="delivery_sensor",
        job_name=DATASET_JOB,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Observes a complete delivery on `golden/*` and starts its check. The same content, touched or"
        " uploaded again, starts nothing.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, inbox: dg.ResourceParam[Inbox], places: dg.ResourceParam[Places]
    ) -> dg.SensorResult | dg.SkipReason:
        if busy := _busy(context.instance):
            return dg.SkipReason(f"run {busy} checks a delivery: the next one comes after it")
        tick = _Tick(Cursor.read(context.cursor), [])
        found = next(_new(context.instance, inbox, places, tick), None)
        cursor = tick.cursor.model_dump_json()
        if found is None:
            return dg.SensorResult(skip_reason="; ".join(tick.notes) or "nothing new", cursor=cursor)
        for note in tick.notes:
            context.log.info(note)
        return dg.SensorResult(
            run_requests=[delivery_request(found.name, found.digest, DATASET_ASSETS)],
            asset_events=list(observations(found)),
            cursor=cursor,
        )

    return sensor


class Cursor(BaseModel):
    """``mark``: up to where everything that arrived was seen. ``waiting``: the fingerprints of deliveries that were
    not complete then, by name; they may be completed by files that arrived earlier than the mark."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mark: str = ""
    waiting: dict[str, str] = {}

    @classmethod
    def read(cls, text: str | None) -> "Cursor":
        try:
            return cls.model_validate_json(text or "{}")
        except ValidationError:  # somebody set another in Dagster: from the beginning, known contents start nothing
            return cls()

    def is_news(self, arrival: Arrival) -> bool:
        if arrival.name in self.waiting:
            return self.waiting[arrival.name] != arrival.fingerprint
        return arrival.mark > self.mark


@dataclass
class _Tick:
    """What a tick found, and said of each delivery that it did not start."""

    cursor: Cursor
    notes: list[str]

    def see(self, arrival: Arrival, missing: str = "") -> None:
        """``arrival`` was looked at; where something is ``missing``, it comes again once it has changed."""
        waiting = {name: fingerprint for name, fingerprint in self.cursor.waiting.items() if name != arrival.name}
        if missing:
            waiting[arrival.name] = arrival.fingerprint
            self.notes.append(f"{arrival.name} is not complete: {missing}")
        mark = self.cursor.mark if arrival.missing else max(self.cursor.mark, arrival.mark)
        self.cursor = Cursor(mark=mark, waiting=waiting)


def _new(instance: dg.DagsterInstance, inbox: Inbox, places: Places, tick: _Tick) -> Iterator[DeliveryFound]:
    """The deliveries to start, in the order of arrival; each is seen before it is given."""
    arrivals, before = inbox.arrivals(), tick.cursor
    names = {arrival.name for arrival in arrivals}
    tick.cursor = Cursor(mark=before.mark, waiting={k: v for k, v in before.waiting.items() if k in names})
    for arrival in arrivals:
        if arrival.missing:
            tick.see(arrival, arrival.missing)
    settled = datetime.now(UTC) - timedelta(seconds=inbox.settle)
    for arrival in (one for one in arrivals if not one.missing and before.is_news(one)):
        if arrival.arrived > settled:
            tick.notes.append(f"{arrival.name} arrived at {arrival.arrived:%H:%M:%S}: left to settle")
            return
        found = inbox.look(arrival.name)
        if isinstance(found, Incomplete):
            tick.see(arrival, found.missing)
            continue
        tick.see(arrival)
        if known := _known(instance, places, found):
            tick.notes.append(f"{arrival.name}: {known}")
        else:
            yield found


def observations(found: DeliveryFound) -> Iterator[dg.AssetObservation]:
    for part, file in GOLDEN_FILES.items():
        tags = {DATA_VERSION_TAG: found.digests[file]}
        yield dg.AssetObservation(golden_key(part), tags=tags, metadata={"delivery": found.name})


def _busy(instance: dg.DagsterInstance) -> str | None:
    """The run that works on a delivery now, or will again: two at once could end in the wrong order."""
    for run in instance.get_runs(dg.RunsFilter(job_name=DATASET_JOB), limit=1):
        if run.is_complete_and_waiting_to_retry:
            return run.run_id
    unfinished = dg.RunsFilter(job_name=DATASET_JOB, statuses=NOT_FINISHED_STATUSES)
    return next(iter(instance.get_run_ids(unfinished, limit=1)), None)


def _known(instance: dg.DagsterInstance, places: Places, found: DeliveryFound) -> str | None:
    """What became of this content before, if anything: by this sensor's run, or pinned by somebody's."""
    runs = instance.get_run_ids(dg.RunsFilter(tags={RUN_KEY_TAG: found.digest}), limit=1)
    if runs:
        return f"run {runs[0]} took up the same content"
    for path in places.dataset("").glob(f"*/{RECORD_FILE}"):
        record = json.loads(path.read_bytes())
        if record["files"] == dict(found.digests):
            return f"its content is dataset version {record['version'][:12]}"
    return None
