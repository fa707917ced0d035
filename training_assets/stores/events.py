"""Events: what others may act on, kept in an outbox until every sink has it. At least once; docs/events.md.

Below the store::

    outbox/events/<id>.json            an event and the names of the sinks it is for, written once before it is sent
    outbox/delivered/<sink>/<id>       that the sink has it

An event's id is the digest of what happened: the same thing said again, by a check that was run twice or a step that
was killed, is the same event and is not sent again. Only a kill between sending and the mark of it sends one twice.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from trainer.contract.errors import Problem
from trainer.contract.eval_report import OVERALL
from trainer.contract.files import digest_of
from trainer.contract.results import Verdict
from trainer.contract.train_config import TrainConfig
from training_assets.gates import GateResult, GateRow
from training_assets.stores.entries import CHECKPOINT, PRODUCTION
from training_assets.stores.event_types import (
    CandidateBelowTarget,
    DataRequested,
    Event,
    GateFailed,
    ModelPromoted,
    ModelRegistered,
    SliceRefused,
    SweepRequested,
)
from training_assets.stores.exclusive import create_exclusively, locked
from training_assets.stores.registry import Registry

TOLD_PROBLEMS = 20
"""Of a report, in its event: an entry of a bus may have 256 kB."""


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    event: Annotated[Event, Field(discriminator="type")]
    sinks: tuple[str, ...]


@dataclass(frozen=True)
class Subject:
    """The model that an event is about."""

    project: str
    recipe: str
    window: str
    run_id: str
    checkpoint_sha256: str | None = None

    @classmethod
    def of(cls, recipe: TrainConfig, window: str, run_id: str, checkpoint_sha256: str | None = None) -> "Subject":
        return cls(recipe.project, recipe.name, window, run_id, checkpoint_sha256)


def gate_events(gates: Iterable[GateResult], subject: Subject) -> Iterator[Event]:
    """What failed of ``gates``, and beside it the slices whose targets are missed."""
    for gate in gates:
        if gate.passed:
            continue
        rows = tuple(row for row in gate.rows if row.passed is False)
        yield GateFailed(
            **_told(subject, "gate.failed", gate.name, rows),
            message=f"gate {gate.name} is not passed: {gate.failures}",
            gate=gate.name,
            severity=gate.severity,
            rows=rows,
        )
        slices = tuple(row for row in rows if row.slice != OVERALL)
        if gate.name == "targets_met" and slices:
            names = ", ".join(dict.fromkeys(row.slice for row in slices))
            yield CandidateBelowTarget(
                **_told(subject, "candidate.below_target", gate.name, slices),
                message=f"run {subject.run_id} is below target on {names}",
                slices=slices,
            )


def run_gate_events(verdicts: Iterable[Verdict], subject: Subject) -> Iterator[Event]:
    """What failed of the gates inside a training."""
    for verdict in verdicts:
        if not verdict.passed:
            yield GateFailed(
                **_told(subject, "gate.failed", verdict.gate),
                message=f"gate {verdict.gate} inside the training is not passed: {verdict.message}",
                gate=verdict.gate,
                severity="block" if verdict.severity == "abort" else "warn",
                rows=(),
            )


def registration_events(registry: Registry, project: str) -> Iterator[Event]:
    """An event for each version of ``project``; the outbox drops those that it has.

    All versions, because a kill may have come between an earlier registration and its event.
    """
    aliases = registry.aliases(project)
    for version in registry.versions(project):
        entry = registry.find(f"{project}@{version}")
        yield ModelRegistered(
            id=digest_of(["model.registered", entry.reference]),
            at=entry.created_at,
            message=f"{entry.reference} is registered",
            project=project,
            recipe=entry.recipe,
            window=entry.lineage.training_set.window,
            run_id=entry.lineage.run.run_id,
            checkpoint_sha256=entry.files[CHECKPOINT].sha256,
            version=version,
            aliases=tuple(name for name, move in aliases.items() if move.version == version),
            metrics=entry.metrics,
        )


def promotion_events(registry: Registry, project: str) -> Iterator[Event]:
    """An event for the newest promotion in ``project``; the outbox drops it where it has it.

    Asked for again with each registration, because a kill may have come between a promotion and its event.
    """
    move = registry.newest(project, PRODUCTION)
    if move is not None:
        yield ModelPromoted(
            id=digest_of(["model.promoted", project, move.alias, move.sequence]),
            at=move.at,
            message=f"{project}@{move.alias} is {move.version} (before: {move.previous or 'nothing'})",
            project=project,
            **move.model_dump(exclude={"at"}),
        )


def slice_refused(name: str, digest: str, report: str, problems: Iterable[Problem]) -> SliceRefused:
    """``report`` names the refusal: the same slice refused again has another."""
    found = tuple(str(problem) for problem in problems)
    return SliceRefused(
        id=digest_of(["slice.refused", name, digest, report]),
        at=datetime.now(UTC),
        message=f"slice {name!r} is refused: {len(found)} problem{'' if len(found) == 1 else 's'}, see {report}",
        slice=name,
        manifest_sha256=digest,
        report=report,
        problems=found[:TOLD_PROBLEMS],
    )


def wanted_for_slice(
    kind: Literal["sweep", "data_request"],
    recipe: TrainConfig,
    name: str,
    production: str,
    evaluated: str,
    gate: GateResult,
) -> SweepRequested | DataRequested:
    """What is wanted because ``production`` misses targets on the slice ``name``, whose frames are ``evaluated``."""
    event: type[SweepRequested | DataRequested] = SweepRequested if kind == "sweep" else DataRequested
    what = "a sweep" if kind == "sweep" else "more data"
    return event(
        id=digest_of([kind, recipe.name, name, production, evaluated]),
        at=datetime.now(UTC),
        message=f"{what} is wanted for {recipe.name}: {recipe.project}@{production} is below target on slice {name}",
        project=recipe.project,
        recipe=recipe.name,
        cause="slice",
        slice=name,
        production=production,
        rows=tuple(row for row in gate.rows if row.passed is False),
    )


def wanted_by_sweep(project: str, recipe: str, sweep: str, name: str, rows: Sequence[GateRow]) -> DataRequested:
    """More data like the slice ``name``, because every trial of ``sweep`` misses ``rows`` on it."""
    return DataRequested(
        id=digest_of(["data_request", recipe, "sweep", sweep, name]),
        at=datetime.now(UTC),
        message=f"more data is wanted for {recipe}: all trials of sweep {sweep} are below target on slice {name}",
        project=project,
        recipe=recipe,
        cause="sweep",
        slice=name,
        rows=tuple(rows),
    )


def weekly_sweep(recipe: TrainConfig, week: str) -> SweepRequested:
    """The sweep that ``recipe`` wants each week; ``week`` names it, and it is told once."""
    return SweepRequested(
        id=digest_of(["sweep", recipe.name, "weekly", week]),
        at=datetime.now(UTC),
        message=f"a sweep is wanted for {recipe.name}, as each week",
        project=recipe.project,
        recipe=recipe.name,
        cause="weekly",
    )


def _told(subject: Subject, kind: str, gate: str, rows: Sequence[GateRow] = ()) -> dict[str, Any]:
    """The fields that all events about ``subject`` have. The id has no time in it: it is that of what happened."""
    about = asdict(subject)
    happened = digest_of([kind, gate, about, [row.model_dump() for row in rows]])
    return {**about, "id": happened, "at": datetime.now(UTC)}


class Unreachable(Exception):
    """The sink cannot be reached at all: other events would fare no better."""


class Refused(Exception):
    """The sink did not take this event."""


class Sink(Protocol):
    """Where events go."""

    name: str

    def send(self, event: Event) -> None:
        """Returns once the sink has the event for good.

        Raises:
            Unreachable, Refused: it has not.
        """


class Outbox:
    """The outbox of the store at ``root``. Several processes may use one store at the same time."""

    def __init__(self, root: Path, sinks: Sequence[Sink]) -> None:
        self.root, self.sinks = root / "outbox", list(sinks)

    def emit(self, events: Iterable[Event], warn: Callable[[str], object]) -> None:
        """Keep those of ``events`` that are new, then deliver whatever is waiting.

        ``warn`` gets a line for what could not be delivered now: it stays, and the next call tries again.
        """
        for event in events:
            self.keep(event)
        self.deliver(warn)

    def keep(self, event: Event) -> None:
        """Write ``event`` down to be delivered; nothing is done where it happened before."""
        envelope = _Envelope(event=event, sinks=tuple(sink.name for sink in self.sinks))
        with contextlib.suppress(FileExistsError):
            create_exclusively(self._events / f"{event.id}.json", envelope.model_dump_json(indent=2).encode())

    def deliver(self, warn: Callable[[str], object]) -> None:
        """Send to each sink what it has not got yet, the oldest first."""
        with locked(self.root / ".lock"):
            for sink in self.sinks:
                for problem in self._delivered(sink):
                    warn(problem)

    def waiting(self, sink: str) -> list[Event]:
        """What ``sink`` is to get, the oldest first."""
        ids = {path.stem for path in self._events.glob("*.json")} - {
            path.name for path in (self.root / "delivered" / sink).glob("*")
        }
        envelopes = [_Envelope.model_validate_json((self._events / f"{one}.json").read_bytes()) for one in sorted(ids)]
        return sorted((one.event for one in envelopes if sink in one.sinks), key=lambda event: event.at)

    def _delivered(self, sink: Sink) -> Iterator[str]:
        for event in self.waiting(sink.name):
            try:
                sink.send(event)
            except Unreachable as error:
                yield f"events wait in {self.root}: {sink.name} cannot be reached: {error}"
                return
            except Refused as error:
                yield f"event {event.id[:12]} waits in {self.root}: {sink.name} did not take it: {error}"
                continue
            create_exclusively(self.root / "delivered" / sink.name / event.id, b"")

    @property
    def _events(self) -> Path:
        return self.root / "events"
