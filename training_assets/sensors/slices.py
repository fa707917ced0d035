"""The slice sensor: each new mined slice becomes a partition and a run, or is refused."""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
from dagster._core.storage.tags import RUN_KEY_TAG

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import digest_of
from trainer.contract.train_config import TrainConfig
from training_assets import mined_slices, partitions
from training_assets.control import SLICE_JOB, slice_request
from training_assets.mined_slices import TakenSlice
from training_assets.stores.entries import PRODUCTION
from training_assets.stores.events import Outbox
from training_assets.stores.inbox import Inbox
from training_assets.stores.registry import Registry

TICK_SECONDS = 10.0
"""What a tick may take; the rest waits for the next one. Dagster gives up on a tick after 60 s."""
BATCH = 50
SHOWN_NOTES = 20
MOST_RUNS = 200
"""That one tick asks for: the daemon takes a moment for each, and the other sensors wait for it."""


def slice_sensor(recipes: Mapping[str, TrainConfig], seconds: int) -> dg.SensorDefinition:
    @dg.sensor(
        name="slice_sensor",
        job_name=SLICE_JOB,
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Makes a partition of each new mined slice, stages it and evaluates the production models on it."
        " A bad one is put aside with a report.",
    )
    def sensor(
        context: dg.SensorEvaluationContext,
        inbox: dg.ResourceParam[Inbox],
        registry: dg.ResourceParam[Registry],
        outbox: dg.ResourceParam[Outbox],
    ) -> dg.SensorResult:
        judged = [one.name for one in recipes.values() if registry.resolve(one.project, PRODUCTION) is not None]
        assets = [dg.AssetKey("mined_slice"), *(dg.AssetKey([name, "slice_eval"]) for name in judged)]
        with TemporaryDirectory() as scratch:
            tick = _Tick(context.instance, inbox, outbox, assets, Path(scratch), context.cursor or "")
            try:
                tick.run()
            finally:
                if tick.refused:
                    outbox.deliver(context.log.warning)
        if not tick.requests:
            return dg.SensorResult(skip_reason=tick.said or "nothing new", cursor=tick.mark)
        if tick.said:
            context.log.info(tick.said)
        return dg.SensorResult(
            run_requests=tick.requests,
            dynamic_partitions_requests=[partitions.slices.build_add_request(tick.names)],
            cursor=tick.mark,
        )

    return sensor


@dataclass(frozen=True)
class _Look:
    """A slice's manifest, which version of it was read, and the run key of its content."""

    taken: TakenSlice
    version: str | None
    run_key: str


@dataclass
class _Tick:
    """Takes the slices that arrived after ``mark``, and moves it along."""

    instance: dg.DagsterInstance
    inbox: Inbox
    outbox: Outbox
    assets: list[dg.AssetKey]
    scratch: Path
    mark: str
    requests: list[dg.RunRequest] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refused: int = 0

    @property
    def said(self) -> str:
        """The notes as a line; every tick is kept, and there may be thousands of them."""
        more = len(self.notes) - SHOWN_NOTES
        return "; ".join(self.notes[:SHOWN_NOTES] + ([f"and {more} more like this"] if more > 0 else []))

    def run(self) -> None:
        deadline = time.monotonic() + TICK_SECONDS
        settled = datetime.now(UTC) - timedelta(seconds=self.inbox.settle)
        found = self.inbox.slices(self.mark)
        for start in range(0, len(found), BATCH):
            batch = [one for one in found[start : start + BATCH] if one.arrived <= settled]
            looks = {one.name: self._look(one.name) for one in batch}
            known = self._known(looks.values())
            for place, one in enumerate(found[start : start + BATCH], start):
                if one.arrived > settled:
                    self.notes.append(f"{one.name!r} arrived at {one.arrived:%H:%M:%S}: left to settle")
                    return
                if place and (time.monotonic() > deadline or len(self.requests) >= MOST_RUNS):
                    self.notes.append(f"{len(found) - place} more slices wait for the next tick")
                    return
                if look := looks[one.name]:
                    self._take(look, known)
                self.mark = one.mark

    def _look(self, name: str) -> _Look | None:
        """The slice as it is now; None where it is gone or cannot be read, which is refused."""
        version = self.inbox.slice_version(name)
        try:
            taken = mined_slices.take(self.inbox, name, self.scratch)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._refuse_unreadable(name, str(version), error)
            return None
        return _Look(taken, version, mined_slices.run_key(self.inbox, taken))

    def _known(self, looks: Iterable[_Look | None]) -> set[str]:
        """Those of the run keys that there is a run with: one question for all of them."""
        keys = [look.run_key for look in looks if look]
        runs = self.instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: keys})) if keys else ()
        return {run.tags[RUN_KEY_TAG] for run in runs}

    def _take(self, look: _Look, known: Collection[str]) -> None:
        name = look.taken.name
        if look.run_key in known:
            self.notes.append(f"{name}: the same content was taken up before")
            return
        try:
            mined_slices.rows_of(self.inbox, look.taken)
        except ContractError as error:
            if self.inbox.slice_version(name) == look.version:
                self._refuse(look.taken, error)
            return
        if self.inbox.slice_version(name) != look.version:
            self.notes.append(f"{name} changed while it was read: left for the next tick")
            return
        self.names.append(name)
        self.requests.append(slice_request(name, look.run_key, self.assets))

    def _refuse_unreadable(self, name: str, version: str, error: OSError) -> None:
        taken = TakenSlice(name, digest_of([name, version]), Path())
        problem = Problem(taken.shown, error.strerror or str(error), "a file that can be read")
        self._refuse(taken, ContractError(f"slice {name} is refused", [problem]))

    def _refuse(self, taken: TakenSlice, error: ContractError) -> None:
        report = mined_slices.refuse(self.inbox, self.outbox, taken, error)
        self.refused += 1
        self.notes.append(f"{taken.name!r} is refused: {report}")
