"""What every way of bringing data onto fast storage offers, and how far it says it is."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainer.contract.errors import ContractError, Problem

SHOWN = 5
LOOKING, BATCH = 16, 10_000


class StorageUnavailable(Exception):
    """It cannot be reached, refuses too many requests, or somebody else stopped the work: another try may do better."""


class StagingError(ContractError):
    """The work failed in a way that another try would only repeat: says what was found and what to change."""


@dataclass(frozen=True)
class Amount:
    """How far some work is: files and bytes done, and of how many; None: not known (yet)."""

    work: str
    files: int
    of_files: int | None = None
    bytes: int | None = None
    of_bytes: int | None = None

    def __str__(self) -> str:
        of_files = "" if self.of_files is None else f" of {self.of_files:,}"
        of_bytes = "" if self.of_bytes is None else f" of {self.of_bytes:,}"
        size = "" if self.bytes is None else f", {self.bytes:,}{of_bytes} bytes"
        return f"{self.work}: {self.files:,}{of_files} files{size}"


Progress = Callable[[Amount], None]
"""Called now and then, from any thread."""


def silent(amount: Amount) -> None:
    """No progress is told."""


class FastStorage(Protocol):
    """One way. Whatever is done twice is done once: work under way is waited for, what is there is not brought again.

    Interrupted by an exception in this process the work is stopped; where the process was killed it goes on, and who
    asks again waits for it.

    Raises (everything but ``brings``): StorageUnavailable, StagingError.
    """

    def brings(self, source: str) -> bool:
        """Whether it has the means to bring ``source``: a URI below its repository, or ``dvc:<version>``."""
        ...

    def bring(self, source: str, progress: Progress = silent) -> Path:
        """Have all that lies below ``source`` on the fast storage, every file whole; returns where."""
        ...

    def export(self, place: Path, progress: Progress = silent) -> str | None:
        """Have all of ``place`` in the durable repository; returns its URI, None where it has none."""
        ...

    def release(self, unused_days: int, progress: Progress = silent) -> None:
        """Free the space of what the repository has too, and nobody has used in so many days."""
        ...


class InPlace:
    """Nothing is brought: data is read where it lies, or its inbox copies it."""

    def brings(self, source: str) -> bool:
        return False

    def bring(self, source: str, progress: Progress = silent) -> Path:
        raise StagingError("nothing is staged", [Problem("profile", "staging: none", f"a kind that brings {source}")])

    def export(self, place: Path, progress: Progress = silent) -> str | None:
        return None

    def release(self, unused_days: int, progress: Progress = silent) -> None:
        """There is nothing to free."""


def lacking(wanted: Mapping[str, int], place: Path) -> list[str]:
    """Those of the files ``wanted`` (relative path → bytes) that are not in ``place``, or are of another size."""
    found = stats(place, list(wanted))
    return [name for name, stat in found if stat is None or stat.st_size != wanted[name]]


def stats(place: Path, names: Sequence[str]) -> Iterator[tuple[str, os.stat_result | None]]:
    """Each of ``names`` below ``place`` with what the file system says of it, None where it is not there.

    Many at once: a file system on other machines takes its time for each, and there may be a million.
    """
    with ThreadPoolExecutor(LOOKING) as pool:
        for begin in range(0, len(names), BATCH):
            some = names[begin : begin + BATCH]
            yield from zip(some, pool.map(_stat, (place / name for name in some)), strict=True)


def refuse_lacking(source: str, missing: list[str], place: Path) -> None:
    """
    Raises:
        StagingError: something is missing.
    """
    if missing:
        shown = ", ".join(missing[:SHOWN]) + ("" if len(missing) <= SHOWN else f" and {len(missing) - SHOWN} more")
        problem = Problem(source, f"{len(missing)} files that did not arrive whole in {place}: {shown}", "all of them")
        raise StagingError("not everything was brought", [problem], "Is the prefix still being written to?")


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
