"""What an inbox holds, and when a delivery in it is complete; the same for every kind of storage.

::

    <inbox>/<delivery>/golden_{train,val,test}.manifest, slices.yaml, folders with images
    <inbox>/<delivery>/_SUCCESS        written last; may be empty
    <inbox>/<delivery>/SHA256SUMS      or this, as ``sha256sum`` writes it, naming at least the four files
    <inbox>/slices/<name>.manifest     a mined slice; its images come before it
    <inbox>/slices/_refused/           slices that were refused, each with its report

Things are ordered by when they arrived, which is the storage's own clock: the time of a file's content may be older
(``cp -p``, ``mv``), and what arrives later must come later.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from trainer.contract.delivery import FILES, file_digests
from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import digest_of
from trainer.contract.names import LONGEST_NAME, PLAIN_NAME, flaw_of_name

SUCCESS = "_SUCCESS"
SUMS = "SHA256SUMS"
SLICES = "slices"
REFUSED = f"{SLICES}/_refused"
MANIFEST = ".manifest"
REPORT = ".report.txt"
DIGITS = 8
"""Of a digest, in names of files that people look at."""
PARALLEL = 16
"""Files that are copied at the same time."""

Progress = Callable[[int, int], None]
"""Called with how many files are done, and how many there are."""


def silent(done: int, total: int) -> None:
    """No progress is told."""


class InboxUnreachable(Exception):
    """The inbox cannot be reached, or does not let itself be read or written; another try may do better."""


@dataclass(frozen=True)
class Stat:
    """A file: when it arrived and when its content was written (ns), and what tells two of its versions apart."""

    arrived: int
    modified: int
    version: str


@dataclass(frozen=True, order=True)
class Arrival:
    """A delivery by its looks. ``mark`` sorts as things arrived, of one moment by name.

    ``missing`` says why it is not complete, and is empty otherwise. ``fingerprint`` changes with every file of it.
    """

    mark: str
    name: str
    arrived: datetime
    fingerprint: str
    missing: str = ""


@dataclass(frozen=True)
class DeliveryFound:
    """A complete delivery, and the sha256 of each of its four files."""

    name: str
    mark: str
    digests: Mapping[str, str]

    @property
    def digest(self) -> str:
        return digest_of(dict(self.digests))


@dataclass(frozen=True)
class Incomplete:
    """A delivery that is not complete (yet), and why."""

    name: str
    missing: str


@dataclass(frozen=True, order=True)
class SliceFound:
    """A mined slice's manifest; ``mark`` as an :class:`Arrival`'s."""

    mark: str
    name: str
    arrived: datetime


class Inbox(ABC):
    """One inbox. ``settle`` is for how many seconds a thing must have been there before a sensor takes it.

    Before that, something that arrived at the same moment may not be visible yet and would be passed over.

    Raises (everything here): InboxUnreachable where it lies on another machine.
    """

    uri: str
    settle: float

    def newest(self) -> DeliveryFound | None:
        """The complete delivery that arrived last."""
        for arrival in reversed(self.arrivals()):
            found = Incomplete(arrival.name, arrival.missing) if arrival.missing else self.look(arrival.name)
            if isinstance(found, DeliveryFound):
                return found
        return None

    def find(self, name: str = "") -> DeliveryFound:
        """The delivery ``name``, by default the newest.

        Raises:
            ContractError: there is none, or it is not complete.
        """
        found = self.look(name) if name else self.newest()
        if isinstance(found, DeliveryFound):
            return found
        problem = (
            Problem(self._at(name), found.missing, f"a complete delivery: {', '.join(FILES)} and {SUCCESS} or {SUMS}")
            if found
            else Problem(self.uri, "no complete delivery", "one: python -m training_assets deliver DIR")
        )
        raise ContractError("there is nothing to take from the inbox", [problem])

    def arrivals(self) -> list[Arrival]:
        """Every delivery by its looks alone, in the order of arrival. A folder without any of its files is none."""
        return sorted(_arrival(name, stats) for name, stats in self._deliveries() if stats)

    def look(self, name: str) -> DeliveryFound | Incomplete:
        """The delivery ``name``, with its files read; what changes while it is read is not complete."""
        before = self._stats(name)
        arrival = _arrival(name, before)
        if arrival.missing:
            return Incomplete(name, arrival.missing)
        try:
            digests = {file: self._sha256(f"{name}/{file}") for file in FILES}
            sums = self._read(f"{name}/{SUMS}").decode(errors="replace") if SUMS in before else None
        except FileNotFoundError:
            return Incomplete(name, "a file was taken away while it was read")
        after = _versions(self._stats(name))
        changed = [file for file, version in _versions(before).items() if after.get(file) != version]
        if changed:
            return Incomplete(name, f"{', '.join(changed)} changed while being read: still being written")
        wrong = "" if sums is None else _against_sums(digests, sums)
        return Incomplete(name, wrong) if wrong else DeliveryFound(name, arrival.mark, digests)

    def put(self, delivery: Path, name: str, progress: Progress = silent) -> DeliveryFound:
        """Put a copy of ``delivery`` here, where sensors see it once it is whole.

        What is there already under ``name`` is kept, if it is the same.

        Raises:
            ContractError: no such delivery, no usable name, or another delivery has it.
        """
        if flaw := _flaw(name):
            raise ContractError(f"{delivery} cannot be delivered", [Problem("name of the delivery", flaw, PLAIN_NAME)])
        digests = file_digests(delivery)
        self._refuse_another(name, digests)
        if not isinstance(self.look(name), DeliveryFound):
            self._place_all(delivery, name, progress)
            # Last: a delivery that was put here by half has no marker.
            self._write(f"{name}/{SUMS}", "".join(f"{digest}  {file}\n" for file, digest in digests.items()).encode())
        return self.find(name)

    def _place_all(self, delivery: Path, name: str, progress: Progress) -> None:
        paths = [path for path in sorted(delivery.rglob("*")) if path.is_file()]
        files = {path: path.relative_to(delivery).as_posix() for path in paths}
        chosen = {path: file for path, file in files.items() if file not in (SUCCESS, SUMS)}
        with ThreadPoolExecutor(PARALLEL) as pool:
            placed = pool.map(lambda item: self._place(item[0], f"{name}/{item[1]}"), chosen.items())
            for done, _ in enumerate(placed, start=1):
                progress(done, len(chosen))

    def slices(self, after: str = "") -> list[SliceFound]:
        """The mined slices that arrived after the mark ``after``, in that order."""
        marked = ((_mark(arrived, name), name, arrived) for name, arrived in self._slices())
        return [SliceFound(mark, name, _moment(arrived)) for mark, name, arrived in sorted(marked) if mark > after]

    def refuse(self, name: str, digest: str, report: str) -> None:
        """Put the slice with this digest aside, with ``report`` beside it."""
        base = self._next_refusal(name, digest)
        # The report first: a slice that is not put aside yet is refused again.
        self._write(f"{base}{REPORT}", report.encode())
        self._move(f"{SLICES}/{name}{MANIFEST}", f"{base}{MANIFEST}")

    def report_of(self, name: str, digest: str) -> str:
        """Where the report will be, should the slice be refused now."""
        return self._at(f"{self._next_refusal(name, digest)}{REPORT}")

    def refusals(self, name: str, digest: str) -> int:
        """How often the slice with this digest was refused: its images may have been mended since."""
        count = 0
        while self._exists(f"{_refused(name, digest, count)}{MANIFEST}"):
            count += 1
        return count

    def _next_refusal(self, name: str, digest: str) -> str:
        return _refused(name, digest, self.refusals(name, digest))

    def _refuse_another(self, name: str, digests: Mapping[str, str]) -> None:
        there = [file for file in self._stats(name) if file in digests]
        other = [file for file in there if self._sha256(f"{name}/{file}") != digests[file]]
        if other:
            problem = Problem(self._at(name), f"another {', '.join(other)}", "a name that is not taken: --name NAME")
            raise ContractError("another delivery has this name", [problem])

    def _at(self, name: str) -> str:
        return f"{self.uri}/{name}"

    @abstractmethod
    def fetch(self, found: DeliveryFound, into: Path, progress: Progress = silent) -> Path:
        """A directory on this machine that holds the whole delivery; a copy is made below ``into``.

        Raises:
            ContractError: it is not what was found any more.
        """

    @abstractmethod
    def slice_manifest(self, name: str, into: Path) -> Path:
        """The manifest of a mined slice as a file on this machine; a copy is made below ``into``.

        Raises:
            FileNotFoundError: there is none.
        """

    @abstractmethod
    def fetch_slice(self, name: str, references: Iterable[str], into: Path) -> Path:
        """The manifest on this machine with the images that it refers to beside it."""

    @abstractmethod
    def lacking(self, references: Iterable[str]) -> set[str]:
        """Those of the references of a mined slice (relative to its manifest) that are no file here."""

    @abstractmethod
    def slice_version(self, name: str) -> str | None:
        """What tells two versions of a slice's manifest apart; None where there is none."""

    @abstractmethod
    def _deliveries(self) -> Iterable[tuple[str, dict[str, Stat]]]:
        """Every folder but the slices', with the stats of the delivery's own files in it."""

    @abstractmethod
    def _stats(self, name: str) -> dict[str, Stat]:
        """The stats of a delivery's own files: the four, and the markers."""

    @abstractmethod
    def _slices(self) -> Iterable[tuple[str, int]]:
        """The names of the mined slices, and when each arrived (ns)."""

    @abstractmethod
    def _place(self, source: Path, name: str) -> None:
        """Put a file here; one that is there already with the same size is kept."""

    @abstractmethod
    def _sha256(self, name: str) -> str:
        """
        Raises:
            FileNotFoundError: there is no such file.
        """

    @abstractmethod
    def _read(self, name: str) -> bytes:
        """
        Raises:
            FileNotFoundError: there is no such file.
        """

    @abstractmethod
    def _write(self, name: str, content: bytes) -> None:
        """Whole or not at all."""

    @abstractmethod
    def _move(self, name: str, target: str) -> None:
        """What is not there any more was moved before."""

    @abstractmethod
    def _exists(self, name: str) -> bool: ...


def _arrival(name: str, stats: Mapping[str, Stat]) -> Arrival:
    arrived = max((stat.arrived for stat in stats.values()), default=0)
    fingerprint = digest_of(_versions(stats))[:16]
    return Arrival(_mark(arrived, name), name, _moment(arrived), fingerprint, _missing(name, stats))


def _versions(stats: Mapping[str, Stat]) -> dict[str, str]:
    return {file: stat.version for file, stat in stats.items()}


def _missing(name: str, stats: Mapping[str, Stat]) -> str:
    if flaw := _flaw(name):
        return f"its name has {flaw}, expected {PLAIN_NAME}"
    absent = [file for file in FILES if file not in stats]
    if absent:
        return f"{', '.join(absent)} missing"
    if SUMS in stats:
        return ""
    if SUCCESS not in stats:
        return f"neither {SUCCESS} nor {SUMS} is there"
    late = [file for file in FILES if stats[file].modified > stats[SUCCESS].modified]
    return f"{', '.join(late)} written after {SUCCESS}: write {SUCCESS} again once all is there" if late else ""


def _against_sums(digests: Mapping[str, str], sums: str) -> str:
    """What SHA256SUMS does not say of the four files; empty when it says it all."""
    lines = [line.split(maxsplit=1) for line in sums.splitlines()]
    said = {parts[1].lstrip("*").removeprefix("./"): parts[0].lower() for parts in lines if len(parts) == 2}
    for file, digest in digests.items():
        if file not in said:
            return f"{SUMS} does not name {file}"
        if said[file] != digest:
            return f"{file} has sha256 {digest[:12]}…, {SUMS} says {said[file][:12]}…: damaged or still being written"
    return ""


def _flaw(name: str) -> str | None:
    return f"'{SLICES}', which is the mined slices' folder" if name == SLICES else flaw_of_name(name)


def _refused(name: str, digest: str, before: int) -> str:
    """Without its suffix, the file of a slice that was refused ``before`` times before."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in name)[:LONGEST_NAME]
    return f"{REFUSED}/{plain}-{digest[:DIGITS]}" + (f"-{before + 1}" if before else "")


def _mark(arrived: int, name: str) -> str:
    return f"{arrived:020d} {name}"


def _moment(arrived: int) -> datetime:
    return datetime.fromtimestamp(arrived / 1e9, UTC)
