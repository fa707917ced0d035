"""The sweep sensor: looks at each sweep that is under way, and starts and ends its trials as its controller says.

Nothing is remembered between ticks: a trial's run has a key, and is asked for until it is there.
"""

import functools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import WILL_RETRY_TAG

from trainer.contract.names import cross_validation_name
from training_assets import partitions
from training_assets.control import (
    LAUNCH_TAG,
    sweep_report_request,
    sweep_run_key,
    trial_request,
    trial_run_key,
)
from training_assets.launchers import Launcher
from training_assets.observability import CloudWatchMetrics, SweepLabels
from training_assets.places import Places
from training_assets.profiles import Profile
from training_assets.records import TrialRun
from training_assets.stores.record_store import MissingRecord, RecordStore
from training_assets.sweeps.controller import Look, Seen
from training_assets.sweeps.journal import Busy
from training_assets.sweeps.place import ENDED_FILE, Ended, SweepPlace, all_sweeps
from training_assets.sweeps.trials import Trial
from training_assets.sweeps.under_way import Sweeping, sweeping

Request = dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest


def sweep_sensor(jobs: Sequence[UnresolvedAssetJobDefinition], seconds: int) -> dg.SensorDefinition:
    """``jobs`` are those of trials and of reports."""

    @dg.sensor(
        name="sweep_sensor",
        jobs=jobs,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks the search of each sweep for its next trials, ends those that are not worth going on with,"
        " keeps the budget, and has the report made when nothing is left to try.",
    )
    def sensor(
        context: dg.SensorEvaluationContext,
        profile: dg.ResourceParam[Profile],
        places: dg.ResourceParam[Places],
        launcher: dg.ResourceParam[Launcher],
    ) -> dg.SensorResult:
        tick = _Tick(context.instance, places, launcher, profile, context.log)
        for place in all_sweeps(places):
            if place.ended is None:
                tick.go_on_with(place)
        for note in tick.notes:
            context.log.info(note)
        skipped = None if tick.requests else "; ".join(tick.notes) or "no sweep is under way"
        return dg.SensorResult(
            run_requests=tick.requests or None, skip_reason=skipped, dynamic_partitions_requests=tick.partitions
        )

    return sensor


@functools.cache
def _cloudwatch(namespace: str) -> CloudWatchMetrics:
    """One for all ticks of a process: it is told at most once a minute."""
    return CloudWatchMetrics(namespace, logging.getLogger(__name__).warning)


@dataclass
class _Tick:
    instance: dg.DagsterInstance
    places: Places
    launcher: Launcher
    profile: Profile
    log: logging.Logger
    requests: list[dg.RunRequest] = field(default_factory=list)
    partitions: list[Request] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def go_on_with(self, place: SweepPlace) -> None:
        try:
            with sweeping(place, self.places, self.launcher) as sweep:
                self._look(sweep)
        except Busy as busy:
            self.notes.append(f"{place.tune}: {busy}")
        except Exception as error:
            # One sweep that cannot be gone on with is no reason to leave the others alone.
            self.log.exception(f"{place.tune} cannot be gone on with")
            self.notes.append(f"{place.tune} cannot be gone on with: {type(error).__name__}: {error}")

    def _look(self, sweep: Sweeping) -> None:
        tune, recipe = sweep.place.tune, sweep.plan.recipe
        actions = sweep.controller.look(self._looks(sweep))
        sweep.prepare(actions)
        for number in actions.run:
            key = cross_validation_name(tune, number)
            self.requests.append(trial_request(recipe, tune, key, sweep.journal[number].resumed))
            self.partitions.append(partitions.trials(recipe).build_add_request([key]))
        if actions.through and self._runs([sweep_run_key(tune)]):
            sweep.place.keep(ENDED_FILE, Ended(reason=actions.said, ended_at=datetime.now(UTC)))
        elif actions.through:
            self.requests.append(sweep_report_request(recipe, tune))
            self.partitions.append(partitions.sweeps(recipe).build_add_request([tune]))
        if actions.said:
            self.notes.append(f"{tune}: {actions.said}")
        self._publish(sweep)

    def _publish(self, sweep: Sweeping) -> None:
        if self.profile.cloudwatch is not None:
            ledger = sweep.purse.ledger()
            cost = None if ledger.estimate.usd_per_hour is None else ledger.spent("max_cost_usd")
            labels = SweepLabels(sweep.recipe.project, sweep.plan.recipe, sweep.place.tune)
            cloudwatch = _cloudwatch(self.profile.cloudwatch.namespace)
            cloudwatch.publish_budget(ledger.now, labels, ledger.used(), cost)

    def _looks(self, sweep: Sweeping) -> list[Look]:
        """Of each trial that runs by the journal, its newest launch, if there is any."""
        running = {
            trial_run_key(cross_validation_name(sweep.place.tune, one.id), one.resumed): one for one in sweep.running
        }
        runs = self._runs(running)
        return [self._look_of(sweep, trial, runs[key]) for key, trial in running.items() if key in runs]

    def _runs(self, keys: Iterable[str]) -> dict[str, dg.DagsterRun]:
        """The newest run of each key that there is one of."""
        wanted = list(keys)
        runs = self.instance.get_runs(dg.RunsFilter(tags={LAUNCH_TAG: wanted})) if wanted else ()
        return {run.tags[LAUNCH_TAG]: run for run in reversed(runs)}  # they come with the newest first

    def _look_of(self, sweep: Sweeping, trial: Trial, run: dg.DagsterRun) -> Look:
        state, final = self._state(sweep, trial, run)  # before its epochs: of what has ended, all are seen
        epochs = sweep.epochs_of(trial)
        if final and not epochs:  # several trainings: only all of them together say anything
            epochs = {sweep.sweep.epochs: final}
        return Look(trial.id, state, epochs, final)

    def _state(self, sweep: Sweeping, trial: Trial, run: dg.DagsterRun) -> tuple[Seen, dict[str, float]]:
        if not run.is_finished or run.tags.get(WILL_RETRY_TAG) == "true":
            return "running", {}
        if not run.is_success:
            return "failed", {}
        key = cross_validation_name(sweep.place.tune, trial.id)
        try:
            record = RecordStore(self.places).read(dg.AssetKey([sweep.plan.recipe, "trial"]), key, TrialRun)
        except MissingRecord:
            return "failed", {}
        return record.state, dict(record.metrics) if record.state == "completed" else {}
