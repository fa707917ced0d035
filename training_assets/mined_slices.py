"""Mined slices as they lie in the inbox: taken, checked, or refused. Sensor and asset both ask here."""

from dataclasses import dataclass
from pathlib import Path

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of
from trainer.contract.mined_slice import Numbered, read_mined_slice, references
from trainer.contract.names import PLAIN_NAME, flaw_of_name
from training_assets.stores.events import Outbox, slice_refused
from training_assets.stores.inbox import Inbox


@dataclass(frozen=True)
class TakenSlice:
    """A mined slice's manifest as a file of this machine, and its sha256."""

    name: str
    digest: str
    manifest: Path

    @property
    def shown(self) -> str:
        """How reports call the manifest."""
        return f"slices/{self.name}.manifest"


def take(inbox: Inbox, name: str, into: Path) -> TakenSlice:
    """
    Raises:
        FileNotFoundError: there is no such slice.
    """
    manifest = inbox.slice_manifest(name, into)
    return TakenSlice(name, sha256_of(manifest), manifest)


def rows_of(inbox: Inbox, taken: TakenSlice) -> Numbered:
    """The rows of a slice whose name is good and whose files are there.

    Raises:
        ContractError: names every problem that was found.
    """
    if flaw := flaw_of_name(taken.name):
        problem = Problem("name of the slice", flaw, PLAIN_NAME)
        raise ContractError("a slice is refused", [problem], "Deliver it again under another name.")
    return read_mined_slice(taken.manifest, taken.shown, inbox.lacking)


def fetch(inbox: Inbox, taken: TakenSlice, rows: Numbered, into: Path) -> Path:
    """The slice's manifest on this machine, its images beside it; below ``into`` where the inbox is elsewhere."""
    return inbox.fetch_slice(taken.name, references(row for _, row in rows), into / f"{taken.name}-{taken.digest[:12]}")


def run_key(inbox: Inbox, taken: TakenSlice) -> str:
    """What is started once. A slice that was refused may come again as it was, with its images mended."""
    refusals = inbox.refusals(taken.name, taken.digest)
    return f"{taken.name}@{taken.digest}" + (f"#{refusals + 1}" if refusals else "")


def refuse(inbox: Inbox, outbox: Outbox, taken: TakenSlice, error: ContractError) -> str:
    """Put the slice aside with its report, and keep the event to be delivered; where the report is."""
    report = inbox.report_of(taken.name, taken.digest)
    # The event first: killed in between, the slice is refused again, and its event is the same.
    outbox.keep(slice_refused(taken.name, taken.digest, report, error.problems))
    inbox.refuse(taken.name, taken.digest, f"{error}\n")
    return report
