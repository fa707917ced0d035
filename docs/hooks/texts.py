"""Markdown out of Python's own texts."""

import re
from collections.abc import Iterable, Sequence

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`~?([^`]+)`")


def from_docstring(text: str | None) -> str:
    """A docstring's reStructuredText as Markdown."""
    text = ROLE.sub(r"``\1``", text or "")
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
    text = re.sub(r"^(Raises|Returns|Yields|Args):$", r"\n**\1**\n", text, flags=re.MULTILINE)
    return _outside_of_code(text, "<", "&lt;").strip()


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell_of(cell) for cell in line) + " |" for line in lines) + "\n"


def cell_of(text: str) -> str:
    return _outside_of_code(" ".join(text.split()), "|", "\\|")


def _outside_of_code(text: str, old: str, new: str) -> str:
    parts = text.split("`")
    return "`".join(part if number % 2 else part.replace(old, new) for number, part in enumerate(parts))
