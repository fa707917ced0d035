"""A daemon without processes: it evaluates sensors and does with what they ask for as Dagster's daemon does."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.storage.tags import PARTITION_NAME_TAG, RUN_KEY_TAG

from training_assets.sensors import follow_up
from training_assets.stores.inbox import LocalInbox


class Daemon:
    """Ticks the sensors of a graph; what they request is carried out at once in this process, or only put on record.

    As in Dagster's: events and partitions first, then runs, each run key once, and at last the cursor.
    """

    def __init__(self, defs: dg.Definitions, instance: dg.DagsterInstance, execute: bool = False, **resources: Any):
        self.defs, self.instance, self.execute = defs, instance, execute
        self.repository = defs.get_repository_def()
        self.resources = {**dict(defs.resources or {}), **resources}
        self.cursors: dict[str, str | None] = {}
        self.results: list[Any] = []

    def evaluate(self, name: str) -> SensorExecutionData:
        """What the sensor says now; nothing comes of it, as when the daemon is killed."""
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(name),
            repository_def=self.repository,
            sensor_name=name,
            resources=self.resources,
        ) as context:
            return self.repository.get_sensor_def(name).evaluate_tick(context)

    def tick(self, name: str) -> SensorExecutionData:
        found = self.evaluate(name)
        for event in found.asset_events:
            self.instance.report_runless_asset_event(event)
        for added in found.dynamic_partitions_requests or ():
            self.instance.add_dynamic_partitions(added.partitions_def_name, list(added.partition_keys))
        for request in found.run_requests or ():
            self.start(request)
        self.cursors[name] = found.cursor
        return found

    def start(self, request: dg.RunRequest) -> None:
        tags = {**request.tags, **({RUN_KEY_TAG: request.run_key} if request.run_key else {})}
        if request.run_key and self.runs(**{RUN_KEY_TAG: request.run_key}):
            return
        if not self.execute:
            self.instance.add_run(
                dg.DagsterRun(job_name=str(request.job_name), tags=tags, run_config=request.run_config)
            )
            return
        with partition_loading_context(dynamic_partitions_store=self.instance):
            result = self.defs.resolve_job_def(str(request.job_name)).execute_in_process(
                instance=self.instance,
                run_config=dict(request.run_config),
                asset_selection=list(request.asset_selection) if request.asset_selection else None,
                partition_key=tags.pop(PARTITION_NAME_TAG, None),
                tags=tags,
                raise_on_error=False,
            )
        self.results.append(result)

    def runs(self, job: str | None = None, **tags: str) -> list[dg.DagsterRun]:
        """Oldest first."""
        return list(reversed(self.instance.get_runs(dg.RunsFilter(job_name=job, tags=tags))))

    def finish(self, status: dg.DagsterRunStatus = dg.DagsterRunStatus.SUCCESS, job: str | None = None) -> None:
        """Let the runs (of ``job``) that are only on record end."""
        for run in self.instance.get_runs(dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.NOT_STARTED])):
            kind = {
                dg.DagsterRunStatus.SUCCESS: dg.DagsterEventType.RUN_SUCCESS,
                dg.DagsterRunStatus.FAILURE: dg.DagsterEventType.RUN_FAILURE,
            }[status]
            self.instance.report_dagster_event(
                dg.DagsterEvent(event_type_value=kind.value, job_name=run.job_name), run_id=run.run_id
            )


@pytest.fixture(scope="session")
def daemon_of() -> Callable[..., Daemon]:
    return Daemon


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to settle: these tests do not race with anybody."""
    monkeypatch.setattr(LocalInbox, "settle", -1.0)
    monkeypatch.setattr(follow_up, "SETTLE_SECONDS", -1.0)
