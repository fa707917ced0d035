"""Problems found in somebody's files, collected into one report instead of one exception at a time."""

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pydantic
from pydantic_core import ErrorDetails

SHOWN_AT_MOST = 100
FOUND_WIDTH = 120

# A few lines of YAML aliases stand for a value whose whole text would fill the memory.
BRIEF = reprlib.Repr()
BRIEF.maxlevel, BRIEF.maxdict, BRIEF.maxlist, BRIEF.maxtuple = 4, 12, 12, 12
BRIEF.maxstring = BRIEF.maxother = BRIEF.maxlong = FOUND_WIDTH


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where it stands, what was found, what was expected."""

    file: str
    found: str
    expected: str
    line: int | None = None
    field: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        field = f" field '{self.field}'" if self.field else ""
        return f"{place}{field}: found {shorten(self.found)}, expected {self.expected}"


class ContractError(ValueError):
    """Every problem of one input, in one report. ``problems`` holds all of them; without any, the title says it all."""

    def __init__(self, title: str, problems: Iterable[Problem] = (), advice: str = "") -> None:
        self.title, self.problems, self.advice = title, list(problems), advice
        count = len(self.problems)
        lines = [f"{title}: {count} problem{'' if count == 1 else 's'}" if count else title]
        lines += [f"  {problem}" for problem in self.problems[:SHOWN_AT_MOST]]
        if count > SHOWN_AT_MOST:
            lines.append(f"  … and {count - SHOWN_AT_MOST} more")
        if advice:
            lines.append(advice)
        super().__init__("\n".join(lines))


class MissingField(ValueError):
    """What a validator of a whole model raises for a field that must be there."""

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(expected)
        self.field = field


def problems_of(error: pydantic.ValidationError, file: str, line: int | None = None) -> list[Problem]:
    """Pydantic's errors as problems that name the file, the line and the field."""
    return [_problem(detail, file, line) for detail in error.errors(include_url=False)]


def _problem(detail: ErrorDetails, file: str, line: int | None) -> Problem:
    missing = detail.get("ctx", {}).get("error")
    if isinstance(missing, MissingField):
        return Problem(file, "nothing", str(missing), line, missing.field)
    return Problem(
        file=file,
        line=line,
        field=".".join(str(part) for part in detail["loc"]) or None,
        found="nothing" if detail["type"] == "missing" else BRIEF.repr(detail.get("input")),
        expected=_expectation(detail["type"], detail["msg"]),
    )


def _expectation(kind: str, message: str) -> str:
    if kind == "missing":
        return "this field to be present"
    if kind == "extra_forbidden":
        return "no field of this name (is it misspelt?)"
    return message[:1].lower() + message[1:]


def shorten(value: Any, width: int = FOUND_WIDTH) -> str:
    text = str(value)
    return text if len(text) <= width else text[: width - 1] + "…"
