"""JSON as people hand it in: what is no JSON is named with its line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from trainer.contract.errors import ContractError, Problem, problems_of

Kind = TypeVar("Kind")


def read_json(path: Path) -> Any:
    """The value of the file at ``path``.

    Raises:
        ContractError: no such file, or not JSON; says the line.
    """
    return _parsed(path, _text(path), 1)


def read_distinct(path: Path) -> Any:
    """As :func:`read_json`, and no key of an object may be given twice."""
    return _parsed(path, _text(path), 1, _distinct)


def read_lines(path: Path, kind: type[Kind], problems: list[Problem]) -> list[tuple[int, Kind]]:
    """Line number and value of each good line of ``path``; what is wrong with the others goes into ``problems``.

    Raises:
        ContractError: no such file, or a line is not JSON.
    """
    adapter, values = TypeAdapter(kind), []
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line or line.isspace():
            continue
        try:
            values.append((number, adapter.validate_python(_parsed(path, line, number))))
        except ValidationError as error:
            problems += problems_of(error, str(path), number)
    return values


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError("a file cannot be read", [Problem(str(path), str(error), "a file")]) from None


def _parsed(path: Path, text: str, first_line: int, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        problem = Problem(str(path), str(error), "JSON", first_line + error.lineno - 1)
    except (RecursionError, ValueError) as error:
        problem = Problem(str(path), str(error), "JSON")
    raise ContractError("a file cannot be read", [problem])


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"given more than once: {sorted({name for name in names if names.count(name) > 1})}")
    return value
