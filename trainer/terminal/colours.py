"""Colours, and whether a stream is a terminal: the one place that knows.

``NO_COLOR`` takes all colours away, ``FORCE_COLOR`` gives them to a pipe too (https://no-color.org,
https://force-color.org). A terminal that calls itself dumb gets neither colours nor bars.
"""

import os
import sys
from collections.abc import Mapping
from typing import TextIO

CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
DUMB = ("dumb", "unknown")


def is_terminal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody watches ``stream`` on a terminal that can go back in its line."""
    try:
        return stream.isatty() and environment.get("TERM", "").lower() not in DUMB
    except ValueError:  # closed
        return False


def has_colours(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    if environment.get("NO_COLOR"):
        return False
    return bool(environment.get("FORCE_COLOR")) or is_terminal(stream, environment)


def painted(text: str, *styles: str, stream: TextIO | None = None) -> str:
    """``text`` in ``styles`` (of ``CODES``) where the stream, standard output by default, has colours."""
    if not text or not has_colours(stream or sys.stdout):
        return text
    return f"\033[{';'.join(CODES[style] for style in styles)}m{text}\033[0m"


def verdict(passed: bool | None, text: str) -> str:
    """``text`` in green or red."""
    return text if passed is None else painted(text, "green" if passed else "red")


def error_style(text: str) -> str:
    """The word before the colon of an error's first line in red, on standard error."""
    head, colon, rest = text.partition(":")
    return f"{painted(head + colon, 'bold', 'red', stream=sys.stderr)}{rest}" if colon and " " not in head else text
