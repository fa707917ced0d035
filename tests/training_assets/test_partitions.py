"""Dagster's window partitions and the contract's windows name the same spans of time."""

from datetime import UTC, date, datetime, timedelta

import pytest

from trainer.contract.windows import window_named, window_of
from training_assets.partitions import rolling, rolling_names, window_partitions
from training_assets.profiles import Windows

WEEKLY = Windows(start=date(2024, 1, 1))
DAILY = Windows(start=date(2024, 1, 1), cadence="daily")


@pytest.mark.parametrize("windows", [WEEKLY, DAILY], ids=["weekly", "daily"])
def test_every_partition_is_the_contracts_window_of_that_name(windows: Windows) -> None:
    definition = window_partitions(windows)
    for key in definition.get_partition_keys():
        ours, theirs = window_named(key, windows.cadence), definition.time_window_for_partition_key(key)
        assert (ours.start, ours.end) == (theirs.start, theirs.end)


@pytest.mark.parametrize("windows", [WEEKLY, DAILY], ids=["weekly", "daily"])
def test_the_window_under_way_is_a_partition_and_the_next_is_none(windows: Windows) -> None:
    now = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday
    keys = window_partitions(windows).get_partition_keys(current_time=now)
    assert keys[-1] == window_of(now, windows.cadence).name


@pytest.mark.parametrize("moment", ["2026-01-04T23:59:59", "2026-01-05T00:00:00", "2025-12-29T00:00:00"])
def test_a_moment_falls_into_the_partition_that_the_contract_says(moment: str) -> None:
    when = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    definition = window_partitions(WEEKLY)
    window = definition.time_window_for_partition_key(window_of(when).name)
    assert window.start <= when < window.end


def test_rolling_names_are_the_upstream_partitions_that_dagster_maps_to() -> None:
    definition = window_partitions(WEEKLY)
    subset = definition.subset_with_partition_keys(["2026-02-23"])
    mapped = rolling(8).get_upstream_mapped_partitions_result_for_partitions(subset, definition, definition)
    assert list(mapped.partitions_subset.get_partition_keys()) == rolling_names(definition, "2026-02-23", 8)


def test_rolling_names_go_on_before_the_first_partition_so_that_missing_windows_can_be_named() -> None:
    names = rolling_names(window_partitions(WEEKLY), "2024-01-08", 3)
    assert names == ["2023-12-25", "2024-01-01", "2024-01-08"]


def test_a_start_inside_a_window_is_refused() -> None:
    with pytest.raises(ValueError, match="2024-01-02 is not the first day of a weekly window"):
        Windows(start=date(2024, 1, 1) + timedelta(days=1))
