"""The sweep sensor: looks at each sweep that is under way, and starts and ends its trials as its controller says.

Nothing is remembered between ticks. A trial's run has a key, and is asked for until it is there.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import RUN_KEY_TAG, WILL_RETRY_TAG

from trainer.contract.names import cv_name
from training_assets import partitions
from training_assets.control import sweep_report_request, sweep_run_key, trial_request, trial_run_key
from training_assets.places import Places
from training_assets.records import TrialRun
from training_assets.stores.record_store import RecordStore
from training_assets.sweeps.controller import Actions, Look, Seen
from training_assets.sweeps.journal import Busy
from training_assets.sweeps.place import ENDED_FILE, Ended, SweepPlace, all_sweeps
from training_assets.sweeps.trials import Trial
from training_assets.sweeps.under_way import Sweeping, sweeping

ENDED_BADLY = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


def sweep_sensor(jobs: Sequence[UnresolvedAssetJobDefinition], seconds: int) -> dg.SensorDefinition:
    """``jobs`` are those of trials and of reports."""

    @dg.sensor(
        name="sweep_sensor",
        jobs=jobs,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks the search of each sweep for its next trials, ends those that are not worth going on with,"
        " keeps the budget, and has the report made when it is through.",
    )
    def sensor(context: dg.SensorEvaluationContext, places: dg.ResourceParam[Places]) -> dg.SensorResult:
        tick = _Tick(context, places)
        for place in all_sweeps(places):
            if place.ended is None:
                tick.look_at(place)
        skipped = None if tick.requests else "; ".join(tick.notes) or "no sweep is under way"
        added = [request for recipe, keys in tick.keys.items() for request in [partitions.trials(recipe)]]
        del added
        return dg.SensorResult(
            run_requests=tick.requests or None,
            skip_reason=skipped,
            dynamic_partitions_requests=list(tick.partitions()),
        )

    return sensor
