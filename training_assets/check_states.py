"""How the states of checks are read: what was judged is not worked out again for every look at a page.

In each request Dagster works out the state of every partition of every check, one after the other: 5.5 seconds for 520
windows and 1,000 slices, while the page waits. Here its own functions see only what changed since the last look.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dagster import AssetCheckKey, DynamicPartitionsDefinition, PartitionsDefinition
from dagster._core.asset_graph_view.serializable_entity_subset import SerializableEntitySubset
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus, AssetCheckPartitionInfo
from dagster._core.storage.asset_check_state import AssetCheckState, _valid_partition_key
from dagster._core.storage.base_storage import DagsterStorage
from dagster._core.storage.dagster_run import FINISHED_STATUSES, DagsterRunStatus, RunsFilter
from dagster._core.storage.event_log import EventLogStorage

Storage = TypeVar("Storage", bound=DagsterStorage)
Records = dict[str | None, AssetCheckPartitionInfo]
"""The newest record of a check by partition; the only one of a check without partitions is that of None."""


def with_remembered_checks(storage: Storage) -> Storage:
    """The same storage, which from now on reads the states of checks through a ``CheckStates``."""
    log = storage.event_log_storage
    log.get_asset_check_state = CheckStates(log).read  # type: ignore[method-assign]
    return storage


@dataclass(frozen=True)
class _Settled:
    """What was judged of a check when it was last looked at, and the state that came of it."""

    partitions: PartitionsDefinition | None
    records: Records = field(default_factory=dict)
    state: AssetCheckState = field(default_factory=AssetCheckState.empty)


class CheckStates:
    """The states of checks, in the memory of a process: as those of Dagster, only sooner.

    A state is worked out from the newest record of each partition and from the runs that are under way. Records that
    are as they were keep their part of the state; those that are planned are worked out each time, for their run may
    have ended without a record.
    """

    def __init__(self, log: EventLogStorage) -> None:
        self._log = log
        self._settled: dict[AssetCheckKey, _Settled] = {}

    def read(
        self, keys: Sequence[tuple[AssetCheckKey, PartitionsDefinition | None]]
    ) -> Mapping[AssetCheckKey, AssetCheckState]:
        """``EventLogStorage.get_asset_check_state``."""
        found: dict[AssetCheckKey, list[AssetCheckPartitionInfo]] = defaultdict(list)
        for record in self._log.get_asset_check_partition_info([key for key, _ in keys]):
            found[record.check_key].append(record)
        runs = self._finished(record for records in found.values() for record in records if _is_planned(record))
        return {key: self._state(key, partitions, found[key], runs) for key, partitions in keys}

    def _state(
        self,
        key: AssetCheckKey,
        partitions: PartitionsDefinition | None,
        found: Sequence[AssetCheckPartitionInfo],
        runs: Mapping[str, DagsterRunStatus],
    ) -> AssetCheckState:
        known = self._settled.get(key)
        if known is None or known.partitions != partitions:
            known = _Settled(partitions)
        settled = self._existing(known, [record for record in found if not _is_planned(record)])
        gone = [name for name, record in known.records.items() if settled.get(name) != record]
        news = [record for name, record in settled.items() if known.records.get(name) != record]
        state = _without(key, partitions, known.state, gone) if gone else known.state
        state = state.with_updates(key, partitions, news, {}) if news else state
        # One assignment: another thread sees the old or the new one, and both are right.
        self._settled[key] = _Settled(partitions, settled, state)
        return state.with_updates(key, partitions, [record for record in found if _is_planned(record)], runs)

    def _existing(self, known: _Settled, records: Iterable[AssetCheckPartitionInfo]) -> Records:
        """The records whose partition there is: slices and trials come and go, windows only come."""
        partitions = known.partitions
        if isinstance(partitions, DynamicPartitionsDefinition):
            names = set(partitions.get_partition_keys(dynamic_partitions_store=self._log._instance))
            return {record.partition_key: record for record in records if record.partition_key in names}
        return {
            record.partition_key: record
            for record in records
            if record.partition_key in known.records or _valid_partition_key(record.partition_key, partitions)
        }

    def _finished(self, planned: Iterable[AssetCheckPartitionInfo]) -> dict[str, DagsterRunStatus]:
        runs = {record.latest_planned_run_id for record in planned}
        if not runs:
            return {}
        filters = RunsFilter(run_ids=list(runs), statuses=FINISHED_STATUSES)
        return {run.run_id: run.status for run in self._log._instance.get_runs(filters)}


def _is_planned(record: AssetCheckPartitionInfo) -> bool:
    return record.latest_execution_status == AssetCheckExecutionRecordStatus.PLANNED


def _without(
    key: AssetCheckKey, partitions: PartitionsDefinition | None, state: AssetCheckState, names: Sequence[str | None]
) -> AssetCheckState:
    """``state`` as if nothing had ever been known of the partitions called ``names``."""
    if partitions is None:
        return AssetCheckState.empty()
    gone = SerializableEntitySubset.from_coercible_value(key, [name for name in names if name], partitions)
    subsets = {status: subset.compute_difference(gone) for status, subset in state.subsets.items()}
    return AssetCheckState(latest_storage_id=state.latest_storage_id, subsets=subsets, in_progress_runs={})
