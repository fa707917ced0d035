"""Partitions: time windows, mined slices, sweeps and their trials.

What runs on them is in ``assets/``, how a row finds its window in ``trainer.contract.windows``; both must name the same
spans of time.
"""

from datetime import UTC, datetime

import dagster as dg

from trainer.contract.names import flaw_of_name
from trainer.contract.windows import NAME_FORMAT, Window
from training_assets.profiles import Windows
from training_assets.records import DatasetVersion

CRON = {"weekly": "0 0 * * 1", "daily": "0 0 * * *"}

slices = dg.DynamicPartitionsDefinition(name="slices")
"""Auto-mined slices; a key is the name of ``slices/<key>.manifest`` in the inbox."""


def sweeps(recipe: str) -> dg.DynamicPartitionsDefinition:
    """The sweeps of a recipe; a key is the name of one."""
    return dg.DynamicPartitionsDefinition(name=f"{recipe}_sweeps")


def trials(recipe: str) -> dg.DynamicPartitionsDefinition:
    """The trials of a recipe's sweeps; a key is ``{tune}-cv{number}``."""
    return dg.DynamicPartitionsDefinition(name=f"{recipe}_trials")


def trial_of(key: str) -> tuple[str, int]:
    """The sweep and the number of a trial.

    Raises:
        dg.Failure: no key of a trial.
    """
    tune, found, number = key.rpartition("-cv")
    if not found or not tune or not number.isdecimal() or flaw_of_name(tune):
        raise dg.Failure(f"partition of trials: found {key!r}, expected '<sweep>-cv<number>'", allow_retries=False)
    return tune, int(number)


def window_partitions(windows: Windows) -> dg.TimeWindowPartitionsDefinition:
    """The windows from the profile's first one up to the one that is under way now."""
    return dg.TimeWindowPartitionsDefinition(
        cron_schedule=CRON[windows.cadence],
        start=datetime(windows.start.year, windows.start.month, windows.start.day, tzinfo=UTC),
        fmt=NAME_FORMAT,
        timezone="UTC",
        end_offset=1,
    )


def rolling(count: int) -> dg.TimeWindowPartitionMapping:
    """A window depends on itself and the ``count - 1`` windows before it; at the very start there are fewer."""
    return dg.TimeWindowPartitionMapping(start_offset=-(count - 1), end_offset=0)


def rolling_names(definition: dg.TimeWindowPartitionsDefinition, newest: str, count: int) -> list[str]:
    """The names of the windows that ``rolling(count)`` asks for, oldest first, also where there is no partition."""
    end = definition.time_window_for_partition_key(newest)
    span = end.end - end.start
    return [Window(start := end.start - span * back, start + span).name for back in reversed(range(count))]


def refuse_other_windows(definition: dg.TimeWindowPartitionsDefinition, dataset: DatasetVersion) -> None:
    """
    Raises:
        dg.Failure: the rows of ``dataset`` lie in windows of another length.
    """
    if definition.cron_schedule != CRON[dataset.cadence]:
        raise dg.Failure(
            f"dataset version {dataset.version[:12]} is split into {dataset.cadence} windows, found other ones in the"
            " profile (windows.cadence). Materialise dataset_version again.",
            allow_retries=False,
        )
