"""The end of a sweep from its trials to the registered winner and the report."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainer.contract.files import write_bytes
from training_assets.assets.release import announced
from training_assets.finals.closing import Closing
from training_assets.finals.contenders import Contender, contenders_of
from training_assets.finals.learning import asked_for_data, proposed
from training_assets.finals.order import Order, ordered
from training_assets.finals.packages import Package, packages_of
from training_assets.finals.smoke import SmokeSet, smoke_set
from training_assets.finals.summary import ending, packaged, summarised
from training_assets.policies import reaching_storage
from training_assets.records import Registered
from training_assets.stores.entries import CHECKPOINT, RegistryEntry
from training_assets.stores.events import Outbox
from training_assets.sweeps.report import MARKDOWN_FILE, SUMMARY_FILE, SweepSummary, write_report
from training_assets.sweeps.report.markdown import sweep_report
from training_assets.sweeps.report.summary import Outcome
from training_assets.sweeps.sweep_file import SWEEP_FILE


@dataclass(frozen=True)
class End:
    """What a sweep came to. ``entry`` is the registered winner; ``packages`` are the best few, in order."""

    summary: SweepSummary
    page: Path
    packages: list[Package]
    order: Order
    winner: Package | None
    entry: RegistryEntry | None
    registered: Registered | None
    smoke: SmokeSet | None


def end(closing: Closing, outbox: Outbox) -> End:
    """Judge, register, report. Asked again, it does only what is not done.

    Raises:
        dg.RetryRequested, dg.Failure: as launched commands and the archive do.
    """
    judged = contenders_of(closing)
    order = ordered(closing, [one for one in judged if one.may_win])
    smoke, no_smoke = _smoke(closing) if order.best else (None, [])
    packages, missing = packages_of(closing, order.best[: closing.sweep.top_k], smoke)
    winner = next((one for one in packages if one.passes), None)
    outcome = _outcome(closing, judged, order, packages, winner)
    told = outcome.model_copy(update={"notes": (*outcome.notes, *missing, *no_smoke)})
    summary = summarised(closing, judged, told)
    entry, record = (None, None) if winner is None else _registered(closing, outbox, winner, summary)
    proposal, no_proposal = proposed(closing, summary)
    found = {
        "registered": entry and record and f"{entry.reference} ({', '.join(record.aliases)})",
        "proposal": proposal,
        "data_request": asked_for_data(closing, judged, outbox),
        "notes": (*told.notes, *filter(None, [no_proposal])),
    }
    summary = summary.model_copy(update={"outcome": told.model_copy(update=found)})
    page = write_report(summary, closing.place.report)
    return End(summary, page, packages, order, winner, entry, record, smoke)


def _smoke(closing: Closing) -> tuple[SmokeSet | None, list[str]]:
    """The smoke set, or why this sweep's models cannot be judged on it."""
    made = smoke_set(closing)
    misfits = made.misfits(closing)
    return (None, [f"Not judged on the smoke set: {'; '.join(misfits)}."]) if misfits else (made, [])


def _outcome(
    closing: Closing, judged: list[Contender], order: Order, packages: list[Package], winner: Package | None
) -> Outcome:
    first = winner.contender if winner else next(iter(order.best), None)
    return ending(closing).model_copy(
        update={
            "winner": None if first is None else first.id,
            "stability": order.said,
            "packages": packaged(closing, packages),
            "notes": tuple(_notes(judged, order, packages)),
        }
    )


def _notes(judged: list[Contender], order: Order, packages: list[Package]) -> Iterator[str]:
    for one in judged:
        if one.gate.blocks:
            yield f"{one.name} may not win, {one.gate.name}: {one.gate.failures}."
    if not order.best:
        yield "No trial may win: none ran to its end within all constraints and gates."
    for package in packages:
        if not package.passes:
            yield f"{package.contender.name} is not registered, {package.failures}."


def _registered(
    closing: Closing, outbox: Outbox, winner: Package, summary: SweepSummary
) -> tuple[RegistryEntry, Registered]:
    """Its checkpoint is registered once, whatever it was compared with since."""
    with reaching_storage():
        entry = _known(closing, winner) or closing.registry.register(
            winner.draft, {**winner.files, **_attached(closing, winner, summary)}
        )
    reason, day = f"winner of sweep {closing.place.tune}", entry.created_at.date()
    return entry, announced(closing.context, entry, closing.registry, outbox, reason, day)


def _known(closing: Closing, winner: Package) -> RegistryEntry | None:
    registry, draft = closing.registry, winner.draft
    found = (registry.entry(draft.project, version) for version in registry.versions(draft.project))
    return next((one for one in found if one and _same(one, winner)), None)


def _same(entry: RegistryEntry, winner: Package) -> bool:
    weights = winner.evaluation.report.checkpoint_sha256
    return entry.lineage.sweep == winner.draft.lineage.sweep and entry.files[CHECKPOINT].sha256 == weights


def _attached(closing: Closing, winner: Package, summary: SweepSummary) -> Mapping[str, Path]:
    """The sweep, beside the model's own files. They stay as they are first written: other files, another version."""
    directory = closing.directory(winner.contender.name) / "release"
    content = {
        SUMMARY_FILE: (summary.model_dump_json(indent=1) + "\n").encode(),
        MARKDOWN_FILE: sweep_report(summary).encode(),
        SWEEP_FILE: (closing.place.root / SWEEP_FILE).read_bytes(),
    }
    return {name: _frozen(directory / name, text) for name, text in content.items()}


def _frozen(path: Path, content: bytes) -> Path:
    if not path.is_file():
        write_bytes(path, content)
    return path
