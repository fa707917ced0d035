"""What readers share: their common options, csv and JSON files, and capture times for data that has none.

The rule of assigned times: the samples of a split are put in order; sample ``i`` of ``n`` falls into window
``floor(i * N / n)`` of the ``N`` weekly windows that begin with the one holding ``--start``. Within a window the
times rise evenly: the ``k``-th of ``m`` samples lies at the share ``(k + 1/2) / m`` of it. Train, val and test are
each spread like this over the same windows, and each row says ``captured_at_source: assigned``.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from trainer.contract.errors import ContractError, Problem, problems_of
from trainer.contract.manifest import SampleId
from trainer.contract.windows import window_of
from trainer.data.readers import Progress

DEFAULT_START = date(2026, 1, 5)
DEFAULT_WINDOWS = 4
T = TypeVar("T")
SAMPLE_ID: TypeAdapter[str] = TypeAdapter(SampleId)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """SRC, OUT and the origin."""
    parser.add_argument("src", metavar="SRC", type=Path, help="directory of the data set")
    parser.add_argument("out", metavar="OUT", type=Path, help="directory to write: new, empty or an earlier output")
    parser.add_argument("--origin", metavar="NAME", help="origin written on each row (default: the name of SRC)")


def add_time_arguments(parser: argparse.ArgumentParser) -> None:
    """Where in time samples are laid that have no capture time."""
    parser.add_argument(
        "--start",
        metavar="DATE",
        type=date.fromisoformat,
        default=DEFAULT_START,
        help=f"a day in the first weekly window that the samples are laid into (default {DEFAULT_START})",
    )
    parser.add_argument(
        "--windows",
        metavar="N",
        type=positive,
        default=DEFAULT_WINDOWS,
        help=f"how many weekly windows they are laid over (default {DEFAULT_WINDOWS})",
    )


def positive(text: str) -> int:
    """A whole number above zero."""
    number = int(text)
    if number < 1:
        raise ValueError(f"{number} is below 1")
    return number


def origin_of(arguments: argparse.Namespace) -> str:
    return str(arguments.origin or arguments.src.resolve().name)


def assigned_times(count: int, start: date, windows: int) -> list[datetime]:
    """The capture times of ``count`` samples in order, by the rule above.

    Raises:
        ContractError: they would lie in the future.
    """
    moment, now = datetime.combine(start, time(), UTC), datetime.now(UTC)
    # Before any arithmetic that could leave the calendar.
    if moment > now or windows > (now - moment).days + 7:
        found = f"{start} with {windows} windows"
        raise ContractError("times cannot be assigned", [Problem("--start", found, "windows that have passed")])
    first = window_of(moment)
    span = first.end - first.start
    places = [index * windows // count for index in range(count)]
    sizes, seen = Counter(places), Counter[int]()
    times = []
    for place in places:
        share = (seen[place] + 0.5) / sizes[place]
        seen[place] += 1
        times.append(first.start + span * place + timedelta(seconds=int(span.total_seconds() * share)))
    if times and times[-1] > now:
        found = f"{start} with {windows} windows, which ends on {times[-1].date()}"
        raise ContractError("times cannot be assigned", [Problem("--start", found, "windows that have passed")])
    return times


def counted(items: Sequence[T], progress: Progress | None) -> Iterator[T]:
    """``items`` one by one; each is reported as done when the next is asked for."""
    for done, item in enumerate(items, start=1):
        yield item
        if progress is not None:
            progress(done, len(items))


def found_directory(src: Path, names: Iterable[str]) -> Path:
    """The first of the directories ``names`` that SRC has.

    Raises:
        ContractError: it has none of them.
    """
    for name in names:
        if (src / name).is_dir():
            return src / name
    problem = Problem(str(src), "none of them", f"a directory called {' or '.join(names)}")
    raise ContractError(f"{src} is not usable", [problem])


def read_json(path: Path, kind: TypeAdapter[T]) -> T:
    """The JSON file at ``path`` as ``kind``.

    Raises:
        ContractError: there is no such file, it is no JSON, or not of that kind; names each field.
    """
    try:
        return kind.validate_json(path.read_bytes())
    except OSError as error:
        problem = Problem(str(path), error.strerror or str(error), "a JSON file")
        raise ContractError("the source is not usable", [problem]) from None
    except ValidationError as error:
        raise ContractError(f"{path} is not usable", problems_of(error, str(path))) from None


def read_table(path: Path, columns: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Line number and cells of each row of the csv file at ``path``.

    Raises:
        ContractError: there is no such file, it has no rows, columns are missing, or a row is cut short.
    """
    if not path.is_file():
        raise ContractError("the source is not usable", [Problem(str(path), "nothing", "a csv file")])
    with open(path, newline="", encoding="utf-8-sig", errors="replace") as stream:
        reader = csv.DictReader(stream)
        header = list(reader.fieldnames or ())
        rows = [(reader.line_num, row) for row in reader]
    problems = [
        Problem(str(path), f"the columns {header}", "this column to be present", 1, column)
        for column in columns
        if column not in header
    ]
    problems += [
        Problem(str(path), "another number of cells than the header has", f"{len(header)} cells", line)
        for line, row in rows
        if None in row or None in row.values()
    ]
    if not rows:
        problems.append(Problem(str(path), "no rows", "at least one sample"))
    if problems:
        raise ContractError(f"{path} is not usable", problems)
    return rows


def id_problems(file: str, ids: Iterable[tuple[int, str]], column: str) -> Iterator[Problem]:
    """Sample ids, each with its line, that cannot be one or that are given twice."""
    first: dict[str, int] = {}
    for line, sample_id in ids:
        try:
            SAMPLE_ID.validate_python(sample_id)
        except ValidationError:
            yield Problem(file, f"'{sample_id}'", "letters, digits, '_' and '-', at most 128", line, column)
        if first.setdefault(sample_id, line) != line:
            yield Problem(file, f"'{sample_id}', also on line {first[sample_id]}", "an id used once", line, column)


def natural(name: str) -> list[tuple[int, str]]:
    """A sort key that puts ``frame-9`` before ``frame-10``."""
    parts: list[tuple[int, str]] = []
    for character in name:
        if character.isdecimal() and parts and parts[-1][1] == "":
            parts[-1] = (parts[-1][0] * 10 + int(character), "")
        else:
            parts.append((int(character), "") if character.isdecimal() else (-1, character))
    return [*parts, (-2, name)]


def summary(counts: Mapping[str, int], out: Path, say: Callable[[str], None] = print) -> None:
    """Tell the user how many samples went into which split."""
    say(f"{out}: " + ", ".join(f"{count} {split}" for split, count in counts.items()))
