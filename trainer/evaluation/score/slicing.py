"""Scores of parts of the samples, chosen by ``slices.yaml`` from a table of attributes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from trainer.contract.errors import ContractError, Problem
from trainer.contract.manifest import Box, Row
from trainer.contract.slices import Scalar, Slice, read_slices
from trainer.data.readers.common import read_table
from trainer.evaluation.score.samples import Samples
from trainer.metrics.statistics import LEVEL, RESAMPLES, intervals, points, resampled

NAME_COLUMNS = ("sample_id", "name", "file_name", "image", "raw_file")
Attributes = Mapping[str, Scalar]


def sliced(samples: Samples, slices_path: Path | None, attributes_path: Path | None) -> dict[str, Any]:
    """Metrics and bootstrap intervals over all samples and over each slice.

    A sample that the table does not name has no attributes; ``without_attributes`` counts them.

    Raises:
        ContractError: the table or the slices do not fit the samples.
    """
    if slices_path is None:
        problem = Problem("--attributes", str(attributes_path), "--slices beside it, which says what to do with it")
        raise ContractError("there is nothing to slice by", [problem])
    slices = read_slices(slices_path).slices
    columns, attributes = ([], {}) if attributes_path is None else read_attributes(attributes_path, samples.names)
    if problems := [*_misfits(slices_path, slices, samples, columns)]:
        raise ContractError("the slices do not fit what is scored", problems)
    rows = [_row(samples, place, attributes.get(place, {})) for place in range(len(samples.names))]
    return {
        "samples": len(rows),
        "without_attributes": len(rows) - len(attributes),
        "resamples": RESAMPLES,
        "level": LEVEL,
        **_scores(samples, range(len(rows))),
        "slices": {one.name: _slice_score(samples, one, rows) for one in slices},
    }


def _slice_score(samples: Samples, one: Slice, rows: Sequence[Row]) -> dict[str, Any]:
    places = [place for place, row in enumerate(rows) if one.holds(row)]
    return {
        "samples": len(places),
        "min_samples": one.min_samples,
        "enough_samples": len(places) >= one.min_samples,
        **_scores(samples, places),
    }


def _scores(samples: Samples, places: Sequence[int]) -> dict[str, Any]:
    values = resampled(samples.statistics([samples.records[place] for place in places]))
    return {"metrics": points(values), "intervals": intervals(values)}


def _row(samples: Samples, place: int, attributes: Attributes) -> Row:
    """A row that says only what slices ask for."""
    said: dict[str, Any] = {"attributes": attributes}
    if samples.boxes is not None:
        boxes: list[dict[str, Any]] = [{"category": category} for category in samples.boxes.of_samples[place]]
        said["boxes"] = tuple(Box.model_construct(**box) for box in boxes)
    return Row.model_construct(**said)


def _misfits(path: Path, slices: Sequence[Slice], samples: Samples, columns: Sequence[str]) -> Iterator[Problem]:
    """A misspelt field would make a slice that is always empty."""
    known = [f"attributes.{column}" for column in columns]
    if samples.boxes is not None:
        known += ["labels.boxes", *(f"labels.boxes.{category}" for category in samples.boxes.categories)]
    if not slices:
        yield Problem(str(path), "no slices", "at least one", field="slices")
    for one in slices:
        for field in one.where:
            if field not in known:
                expected = f"one of {known}" if known else "attributes.<column> of a table given as --attributes"
                yield Problem(str(path), f"'{field}' (slice '{one.name}')", expected, field="where")


def read_attributes(path: Path, names: Sequence[tuple[str, ...]]) -> tuple[list[str], dict[int, Attributes]]:
    """The columns of the table, and by a sample's place in ``names`` what the table says of it.

    The sample is named by the first of ``NAME_COLUMNS`` and the table's first column in which a cell names one. A
    column whose filled cells are all whole numbers, numbers or true and false holds these, any other text; an empty
    cell says nothing.

    Raises:
        ContractError: the file is no such table, or a row names no sample, several, or one that another row names.
    """
    table, places = read_table(path, ()), _places(names)
    header = list(table[0][1])
    candidates = [*(column for column in NAME_COLUMNS if column in header), header[0]]
    key = next((one for one in candidates if any(cells[one] in places for _, cells in table)), candidates[0])
    columns = [column for column in header if column != key]
    lines, problems = _lines(path, key, table, names, places)
    if problems:
        raise ContractError(f"{path} does not fit what is scored", problems)
    values = {column: _typed([cells[column] for _, cells in table]) for column in columns}
    return columns, {
        place: {column: value for column in columns if (value := values[column][line]) is not None}
        for place, line in lines.items()
    }


def _places(names: Sequence[tuple[str, ...]]) -> dict[str, set[int]]:
    """By name the places in ``names`` of the samples that go by it."""
    places: dict[str, set[int]] = {}
    for place, own in enumerate(names):
        for name in own:
            places.setdefault(name, set()).add(place)
    return places


def _lines(
    path: Path,
    key: str,
    table: Sequence[tuple[int, Mapping[str, str]]],
    names: Sequence[tuple[str, ...]],
    places: Mapping[str, set[int]],
) -> tuple[dict[int, int], list[Problem]]:
    """By a sample's place in ``names`` the place of its row in ``table``."""
    rows: dict[int, int] = {}
    problems = []
    for row, (line, cells) in enumerate(table):
        named = places.get(cells[key], set())
        place = next(iter(named), None)
        if place is None:
            problems.append(Problem(str(path), f"'{cells[key]}'", f"a sample, like '{names[0][0]}'", line, key))
        elif len(named) > 1:
            found = f"'{cells[key]}', which names {sorted(names[one][0] for one in named)}"
            problems.append(Problem(str(path), found, "a name of one sample", line, key))
        elif rows.setdefault(place, row) != row:
            found = f"'{cells[key]}', also on line {table[rows[place]][0]}"
            problems.append(Problem(str(path), found, "one row a sample", line, key))
    return rows, problems


def _typed(cells: Sequence[str]) -> Sequence[Scalar | None]:
    kinds: tuple[Callable[[str], Scalar], ...] = (int, _number, _truth)
    for kind in kinds:
        try:
            return [kind(cell) if cell else None for cell in cells]
        except ValueError:
            continue
    return [cell or None for cell in cells]


def _number(cell: str) -> float:
    value = float(cell)
    if not isfinite(value):
        raise ValueError(cell)
    return value


def _truth(cell: str) -> bool:
    values = {"true": True, "false": False}
    if cell.lower() not in values:
        raise ValueError(cell)
    return values[cell.lower()]
