"""Windows: every moment has exactly one, named by its first day in UTC."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.windows import window_named, window_of

offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1), timezones=offsets)


@given(moment=moments)
def test_a_weekly_window_is_the_iso_week_in_utc(moment):
    window = window_of(moment)
    assert moment in window
    year, week, _ = moment.astimezone(UTC).isocalendar()
    assert window.name == date.fromisocalendar(year, week, 1).isoformat()
    assert window.end - window.start == timedelta(days=7)


@given(moment=moments, cadence=st.sampled_from(["weekly", "daily"]))
def test_windows_touch_and_do_not_overlap(moment, cadence):
    window = window_of(moment, cadence)
    assert window.end not in window
    assert window_of(window.end, cadence).start == window.end
    assert window_of(window.end - timedelta(microseconds=1), cadence) == window


@given(moment=moments, cadence=st.sampled_from(["weekly", "daily"]))
def test_a_window_is_found_by_its_name(moment, cadence):
    window = window_of(moment, cadence)
    assert window_named(window.name, cadence) == window


def test_midnight_belongs_to_the_window_it_begins():
    assert window_of(datetime(2026, 1, 12, tzinfo=UTC)).name == "2026-01-12"
    assert window_of(datetime(2026, 1, 11, 23, 59, 59, tzinfo=UTC)).name == "2026-01-05"


def test_a_name_that_is_not_a_first_day_is_refused_with_the_right_one():
    with pytest.raises(ValueError, match="2026-01-05"):
        window_named("2026-01-07")


@pytest.mark.parametrize("name", ["", "last week", "2026-02-30", "2026-W02-3"])
def test_a_name_that_is_no_first_day_at_all_is_refused(name):
    with pytest.raises(ValueError):
        window_named(name)
