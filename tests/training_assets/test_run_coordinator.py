"""Whatever way a run got into the queue, it says why it is there and how urgent it is."""

from collections.abc import Iterator, Mapping

import dagster as dg
import pytest
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import SubmitRunContext

from training_assets.control import run_tags

PRIORITY, CAUSE, BECAUSE = "dagster/priority", "training_assets/cause", "training_assets/because"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    coordinator = {"module": "training_assets.run_coordinator", "class": "PrioritizedRunCoordinator"}
    with dg.instance_for_test(overrides={"run_coordinator": coordinator}) as instance:
        yield instance


@dg.job
def nothing() -> None:
    pass


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, {PRIORITY: "30", CAUSE: "manual"}),
        ({"dagster/backfill": "abc"}, {PRIORITY: "0", CAUSE: "backfill", BECAUSE: "backfill abc"}),
        ({PRIORITY: "99"}, {PRIORITY: "99", CAUSE: "manual"}),
        (run_tags("nightly", "shards"), {PRIORITY: "10", CAUSE: "nightly", BECAUSE: "shards"}),
    ],
)
def test_a_run_without_a_cause_is_a_persons_or_a_backfills(
    instance: dg.DagsterInstance, tags: Mapping[str, str], expected: Mapping[str, str]
) -> None:
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("tests"), "tests")
    run = instance.create_run_for_job(nothing, tags=tags, remote_job_origin=RemoteJobOrigin(repository, "nothing"))
    queued = instance.run_coordinator.submit_run(SubmitRunContext(run, workspace=None))
    assert queued.status == dg.DagsterRunStatus.QUEUED
    assert {name: queued.tags.get(name) for name in expected} == expected
