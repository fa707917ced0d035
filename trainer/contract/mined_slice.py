"""A mined slice: one manifest with its images beside it, checked before it is staged.

Two checks, the cheap one first: the rows and that their files are there, then what is in the files.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from trainer.contract.delivery import CLOCK_SKEW, from_the_future
from trainer.contract.errors import ContractError, Problem
from trainer.contract.images import check_sample
from trainer.contract.manifest import Row, is_uri, read_manifest
from trainer.contract.slices import Slices

Numbered = Sequence[tuple[int, Row]]


def read_mined_slice(path: Path, name: str, lacking: Callable[[Iterable[str]], set[str]]) -> Numbered:
    """The rows of the manifest at ``path``, each with its line, all of whose files are there.

    ``name`` stands for the manifest in the report. ``lacking`` gives those of some references that are no files.

    Raises:
        ContractError: names every problem that was found.
    """
    problems: list[Problem] = []
    numbered = list(read_manifest(path, problems))
    problems = [replace(problem, file=name) for problem in problems]
    if not numbered and not problems:
        problems.append(Problem(name, "no rows", "at least one sample"))
    horizon = datetime.now(UTC) + CLOCK_SKEW
    problems += [from_the_future(name, number, row, horizon) for number, row in numbered if row.captured_at > horizon]
    problems += _repeats(name, numbered)
    problems += _missing_files(name, numbered, lacking)
    if problems:
        raise _refusal(name, problems)
    return numbered


def check_pictures(numbered: Numbered, root: Path, name: str, slices: Slices) -> None:
    """Decode the images and masks of the rows, which lie below ``root``; ``slices`` says what masks may hold.

    Raises:
        ContractError: names every problem that was found.
    """

    def check(item: tuple[int, Row]) -> list[Problem]:
        number, row = item
        return check_sample(root, name, number, row, slices)[1]

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        problems = [problem for found in pool.map(check, numbered) for problem in found]
    if problems:
        raise _refusal(name, problems)


def references(rows: Iterable[Row]) -> Iterator[str]:
    """The files that the rows name, relative to the manifest."""
    for row in rows:
        yield from filter(None, (row.source_ref, row.semantic_ref))


def _refusal(name: str, problems: Iterable[Problem]) -> ContractError:
    return ContractError(f"slice {name} is refused", problems, "Mend it and deliver it again, the manifest last.")


def _repeats(name: str, numbered: Numbered) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for number, row in numbered:
        if first.setdefault(row.sample_id, number) != number:
            found = f"'{row.sample_id}', also on line {first[row.sample_id]}"
            yield Problem(name, found, "a sample_id used once", number, "sample_id")


def _missing_files(name: str, numbered: Numbered, lacking: Callable[[Iterable[str]], set[str]]) -> Iterator[Problem]:
    missing = lacking(reference for reference in references(row for _, row in numbered) if not is_uri(reference))
    for number, row in numbered:
        for field, reference in (("source-ref", row.source_ref), ("semantic-ref", row.semantic_ref)):
            if reference is not None and (reference in missing or is_uri(reference)):
                expected = "a file that is there, by its path relative to the manifest and not above it"
                yield Problem(name, f"'{reference}'", expected, number, field)
