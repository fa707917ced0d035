"""Whatever happens between two looks, the remembered states of checks are those that Dagster works out afresh."""

import time
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_state import AssetCheckState
from dagster._core.test_utils import create_run_for_test
from hypothesis import given, settings
from hypothesis import strategies as st

from training_assets.check_states import CheckStates

Partitions = dg.PartitionsDefinition | None
MONDAYS, SLICES = ["2026-01-05", "2026-01-12", "2026-01-19"], ["fog", "rain", "snow"]
WEEKLY = dg.TimeWindowPartitionsDefinition(cron_schedule="0 0 * * 1", start="2026-01-05", fmt="%Y-%m-%d")
DAILY = dg.TimeWindowPartitionsDefinition(cron_schedule="0 0 * * *", start="2026-01-01", fmt="%Y-%m-%d")
MINED = dg.DynamicPartitionsDefinition(name="slices")
KEYS: list[tuple[dg.AssetCheckKey, Partitions]] = [
    (dg.AssetCheckKey(dg.AssetKey("windowed"), "good"), WEEKLY),
    (dg.AssetCheckKey(dg.AssetKey("windowed"), "quick"), WEEKLY),
    (dg.AssetCheckKey(dg.AssetKey("sliced"), "good"), MINED),
    (dg.AssetCheckKey(dg.AssetKey("whole"), "good"), None),
]
OTHER_WINDOWS = [(key, DAILY if partitions is WEEKLY else partitions) for key, partitions in KEYS]
ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@st.composite
def happening(draw: st.DrawFn) -> tuple[Any, ...]:
    """A look, or something that happens to checks between two looks."""
    key, partitions = draw(st.sampled_from(KEYS))
    name = None if partitions is None else draw(st.sampled_from(MONDAYS if partitions is WEEKLY else SLICES))
    return draw(
        st.sampled_from(
            [
                ("look", KEYS),
                ("look", [(key, partitions)]),
                ("look", OTHER_WINDOWS),
                ("made", key, name),
                ("made", key, None),
                ("judged", key, name, True),
                ("judged", key, name, False),
                ("planned", key, name, partitions),
                ("judged by a run", key, True),
                ("ended", ENDED[0]),
                ("ended", ENDED[1]),
                ("ended", ENDED[2]),
                ("comes or goes", draw(st.sampled_from(SLICES))),
            ]
        )
    )


class Log:
    """Dagster's event log in memory, where things happen."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance, self.storage = instance, instance.event_log_storage
        self.remembered = CheckStates(self.storage)
        self.runs: list[tuple[str, dg.AssetCheckKey, str | None]] = []

    def happens(self, kind: str, *what: Any) -> None:
        getattr(self, kind.replace(" ", "_"))(*what)

    def look(self, keys: list[tuple[dg.AssetCheckKey, Partitions]]) -> None:
        with partition_loading_context(dynamic_partitions_store=self.instance):
            found, afresh = self.remembered.read(keys), self.storage.get_asset_check_state(keys)
        assert all(found[key].compatible_with(partitions) for key, partitions in keys)
        assert {key: told(state) for key, state in found.items()} == {key: told(s) for key, s in afresh.items()}

    def made(self, key: dg.AssetCheckKey, name: str | None) -> None:
        self.instance.report_runless_asset_event(dg.AssetMaterialization(key.asset_key, partition=name))

    def judged(self, key: dg.AssetCheckKey, name: str | None, passed: bool) -> None:
        run = create_run_for_test(self.instance, status=dg.DagsterRunStatus.SUCCESS)
        self.event(run.run_id, DagsterEventType.ASSET_CHECK_EVALUATION, self.evaluation(key, name, passed))

    def evaluation(self, key: dg.AssetCheckKey, name: str | None, passed: bool) -> dg.AssetCheckEvaluation:
        made = self.instance.fetch_materializations(key.asset_key, limit=1).records
        target = made and AssetCheckEvaluationTargetMaterializationData(
            storage_id=made[0].storage_id, run_id=made[0].run_id, timestamp=made[0].timestamp
        )
        return dg.AssetCheckEvaluation(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=passed,
            partition=name,
            target_materialization_data=target or None,
        )

    def planned(self, key: dg.AssetCheckKey, name: str | None, partitions: Partitions) -> None:
        run = create_run_for_test(self.instance, status=dg.DagsterRunStatus.STARTED)
        subset = partitions.subset_with_partition_keys([name]) if partitions and name else None
        data = AssetCheckEvaluationPlanned(asset_key=key.asset_key, check_name=key.name, partitions_subset=subset)
        self.event(run.run_id, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED, data)
        self.runs.append((run.run_id, key, name))

    def judged_by_a_run(self, _: dg.AssetCheckKey, passed: bool) -> None:
        if self.runs:
            run, key, name = self.runs[-1]
            self.event(run, DagsterEventType.ASSET_CHECK_EVALUATION, self.evaluation(key, name, passed))

    def event(self, run: str, kind: DagsterEventType, data: Any) -> None:
        event = DagsterEvent(event_type_value=kind.value, job_name="job", event_specific_data=data)
        entry = EventLogEntry(
            error_info=None, level=20, user_message="", run_id=run, timestamp=time.time(), dagster_event=event
        )
        self.instance.handle_new_event(entry)

    def ended(self, status: dg.DagsterRunStatus) -> None:
        if self.runs:
            run = self.instance.get_run_by_id(self.runs.pop()[0])
            assert run is not None
            kind = {
                dg.DagsterRunStatus.SUCCESS: DagsterEventType.RUN_SUCCESS,
                dg.DagsterRunStatus.FAILURE: DagsterEventType.RUN_FAILURE,
                dg.DagsterRunStatus.CANCELED: DagsterEventType.RUN_CANCELED,
            }[status]
            self.event(run.run_id, kind, None)

    def comes_or_goes(self, name: str) -> None:
        """There is a slice that was not there before, or the other way round."""
        if self.instance.has_dynamic_partition("slices", name):
            self.instance.delete_dynamic_partition("slices", name)
        else:
            self.instance.add_dynamic_partitions("slices", [name])


def told(state: AssetCheckState) -> dict[str, object]:
    """The partitions by status and by run, also where nothing has that status."""
    subsets = {status.value: names(subset) for status, subset in state.subsets.items()}
    return {name: found for name, found in subsets.items() if found} | {
        run: names(subset) for run, subset in state.in_progress_runs.items()
    }


def names(subset: Any) -> object:
    return subset.bool_value if not subset.is_partitioned else sorted(subset.subset_value.get_partition_keys())


@pytest.mark.slow
@given(st.lists(happening(), min_size=5, max_size=40))
@settings(max_examples=25, deadline=None)
def test_whatever_happens_the_states_are_those_of_dagster(history):
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("slices", ["fog", "rain"])
        log = Log(instance)
        for what in history:
            log.happens(*what)
        log.look(KEYS)


def test_windows_of_another_length_are_judged_afresh():
    with dg.DagsterInstance.ephemeral() as instance:
        log = Log(instance)
        key, _ = KEYS[0]
        log.judged(key, MONDAYS[0], True)
        for partitions in (WEEKLY, DAILY, WEEKLY):
            log.look([(key, partitions)])


def test_a_slice_that_is_gone_has_no_state_and_has_it_again_when_it_is_back():
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("slices", ["fog", "rain"])
        log = Log(instance)
        key, _ = sliced = KEYS[2]
        log.judged(key, "fog", True)
        log.judged(key, "rain", False)
        for _ in range(3):
            log.look([sliced])
            log.comes_or_goes("fog")


def test_a_second_look_works_out_nothing_again(monkeypatch):
    looked: list[int] = []
    update = AssetCheckState.with_updates

    def counted(self, key, partitions, records, runs):
        looked.append(len(records))
        return update(self, key, partitions, records, runs)

    monkeypatch.setattr(AssetCheckState, "with_updates", counted)
    with dg.DagsterInstance.ephemeral() as instance:
        log = Log(instance)
        key, _ = KEYS[0]
        for name in MONDAYS:
            log.judged(key, name, True)
        log.remembered.read(KEYS[:1])
        assert sum(looked) == 3
        log.judged(key, MONDAYS[1], False)
        looked.clear()
        states = log.remembered.read(KEYS[:1])
        assert sum(looked) == 1
        assert told(states[key]) == {"FAILED": [MONDAYS[1]], "SUCCEEDED": [MONDAYS[0], MONDAYS[2]]}
