"""What a command answers with: one JSON document for programs, or text for people; and its errors in both forms."""

import contextlib
import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, TextIO

from trainer.contract.errors import ContractError, Problem
from trainer.contract.exit_codes import BAD_INPUT, DONE
from trainer.terminal.colours import error_style


@dataclass(frozen=True)
class Answer:
    """``document`` is what ``--json`` prints; ``text``, whole or in lines, is what people read without it.

    ``text`` is empty where the command has told all of it on its way.
    """

    document: Any = None
    text: str | Iterable[str] = ""
    code: int = DONE


@dataclass(frozen=True)
class Refusal:
    """Why a command did not do what it was asked for. ``text`` is the report that people read."""

    code: int
    headline: str
    text: str
    problems: tuple[Problem, ...] = ()
    advice: str = ""

    @property
    def document(self) -> dict[str, Any]:
        return error_document(self.headline, self.problems, self.advice)


def refusal_of(error: ContractError) -> Refusal:
    return Refusal(BAD_INPUT, error.title, f"error: {error}", tuple(error.problems), error.advice)


def error_document(headline: str, problems: Iterable[Problem] = (), advice: str = "") -> dict[str, Any]:
    """``{"error": {headline, problems: [{file, line, field, found, expected}], advice}}``."""
    found = [{name: getattr(one, name) for name in ("file", "line", "field", "found", "expected")} for one in problems]
    return {"error": {"headline": headline, "problems": found, "advice": advice}}


def show(answer: Answer) -> None:
    """Print the text of ``answer``."""
    lines = [answer.text] if isinstance(answer.text, str) else answer.text
    for line in lines:
        if line:
            print(line)


def show_refusal(refusal: Refusal) -> None:
    print(error_style(refusal.text), file=sys.stderr, flush=True)


def write_document(document: Any, stream: TextIO) -> None:
    stream.write(json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    stream.flush()


def plain(value: Any) -> Any:
    """``value`` as JSON knows it: what is not finite is null, moments are ISO 8601."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return [plain(one) for one in value] if isinstance(value, Iterable) else str(value)


@contextlib.contextmanager
def document_alone() -> Iterator[TextIO]:
    """Standard output, for the document alone: what else this process or one that it starts prints there goes to
    standard error."""
    with contextlib.ExitStack() as stack:
        stream = sys.stdout
        if _is_descriptor_1(stream):
            stream.flush()
            kept = os.dup(1)
            os.dup2(2, 1)
            stack.callback(os.dup2, kept, 1)
            stream = stack.enter_context(open(kept, "w", encoding="utf-8", closefd=False))
            stack.callback(sys.stdout.flush)
        with contextlib.redirect_stdout(sys.stderr):
            yield stream


def _is_descriptor_1(stream: TextIO) -> bool:
    try:
        return stream.fileno() == 1
    except (OSError, ValueError, AttributeError):  # a test's own stream
        return False
