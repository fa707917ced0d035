"""Time windows: which slice of time a row belongs to, and how windows are named.

A window is named by the UTC date of its first day; weekly windows begin on Monday, as ISO 8601 weeks do.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

Cadence = Literal["weekly", "daily"]
DAYS = {"weekly": 7, "daily": 1}
NAME_FORMAT = "%Y-%m-%d"


@dataclass(frozen=True, order=True)
class Window:
    """A half-open span of time ``[start, end)`` in UTC."""

    start: datetime
    end: datetime

    @property
    def name(self) -> str:
        return self.start.strftime(NAME_FORMAT)

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


def window_of(moment: datetime, cadence: Cadence = "weekly") -> Window:
    """The window that ``moment`` (with a time zone) falls into."""
    day = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = day - timedelta(days=day.weekday()) if cadence == "weekly" else day
    return Window(start, start + timedelta(days=DAYS[cadence]))


def window_named(name: str, cadence: Cadence = "weekly") -> Window:
    """The window called ``name``.

    Raises:
        ValueError: not a date, or not the first day of a window.
    """
    first_day = date.fromisoformat(name)
    window = window_of(datetime(first_day.year, first_day.month, first_day.day, tzinfo=UTC), cadence)
    if window.name != name:
        raise ValueError(f"'{name}' is not the first day of a {cadence} window; the one around it is '{window.name}'")
    return window
