"""What comes after a run: staging after a delivery, training after staging, a plan or an event after a weak slice."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from training_assets.control import Cause, Plan, plans_of, run_tags, staging_request
from training_assets.records import Checkpoint, ShardList, SliceEvaluation
from training_assets.sensors import deliveries, follow_up
from training_assets.standing import SliceState, slices
from training_assets.stores.inbox import LocalInbox
from training_assets.stores.registry import Registry

WINDOW = "2026-01-12"
DELIVERIES, SLICES, FOLLOW_UP = "delivery_sensor", "slice_sensor", "follow_up"


@pytest.fixture(autouse=True)
def _without_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference profile is computed with torch: seconds, and no sensor depends on it."""
    at_once(monkeypatch)


def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "DATASET_ASSETS", ("dataset_version", "eval_shards"))
    monkeypatch.setattr(LocalInbox, "settle", -1.0)
    monkeypatch.setattr(follow_up, "SETTLE_SECONDS", -1.0)


def with_recipe(graph: Any, recipe: Path, **changes: object) -> Any:
    """The graph again, its recipe as it is with these changes."""
    text = yaml.safe_dump({**yaml.safe_load(recipe.read_text()), **changes})
    (graph.profile.recipes / "tiny.yaml").write_text(text)
    return graph.edited()


@dataclass
class World:
    """A graph with one delivery in its inbox, and what its daemon made of that: ``jobs`` as they were started."""

    graph: Any
    daemon: Any
    jobs: list[str]
    recipe: Path

    def daemon_with(self, daemon_of: Callable, **changes: object) -> Any:
        """A daemon that goes on where the one before ended, with another recipe."""
        graph = with_recipe(self.graph, self.recipe, **changes)
        daemon = daemon_of(graph.defs, graph.instance, execute=True)
        daemon.graph, daemon.cursors = graph, self.daemon.cursors
        return daemon


@pytest.fixture(scope="module")
def world(make_graph: Callable, daemon_of: Callable, recipe: Path) -> Iterator[World]:
    """One for all tests of this module: a whole chain takes seconds."""
    with dg.DagsterInstance.ephemeral() as instance, pytest.MonkeyPatch.context() as patched:
        at_once(patched)
        graph = with_recipe(make_graph(instance), recipe, automation={"on_delivery": True})
        daemon = daemon_of(graph.defs, instance, execute=True)
        daemon.graph = graph
        jobs = tick_all(daemon, 4)
        Registry(graph.places.root).promote("tests", "1.0.0", by="test")
        yield World(graph, daemon, jobs, recipe)


@pytest.fixture
def promoted(world: World, daemon_of: Callable) -> Callable:
    """Makes a daemon over the world with this ``automation``; each test mines slices of its own."""

    def make(**automation: object) -> Any:
        return world.daemon_with(daemon_of, automation=automation)

    return make


@pytest.fixture
def automatic(world: World, instance: dg.DagsterInstance, daemon_of: Callable) -> Callable:
    """Makes a daemon whose runs are only put on record, in an instance of the test's own."""

    def make(recipe: dict[str, object] | None = None, **automation: object) -> Any:
        graph = with_recipe(world.graph, world.recipe, **(recipe or {}), automation=automation)
        daemon = daemon_of(graph.defs, instance)
        daemon.graph = graph
        return daemon

    return make


def tick_all(daemon: Any, times: int = 1) -> list[str]:
    """The jobs that were started, in order."""
    before = len(daemon.runs())
    for _ in range(times):
        for name in (DELIVERIES, SLICES, FOLLOW_UP):
            daemon.tick(name)
    return [run.job_name for run in daemon.runs()[before:]]


def mine(daemon: Any, name: str = "fog", day: str = "2026-01-13") -> None:
    """A slice of one new frame."""
    rows = [json.loads(line) for line in (daemon.graph.delivery / "golden_train.manifest").read_text().splitlines()]
    slices = daemon.graph.inbox / "slices"
    slices.mkdir(exist_ok=True)
    shutil.copyfile(daemon.graph.delivery / rows[0]["source-ref"], slices / f"{name}.png")
    row = {key: value for key, value in rows[0].items() if not key.startswith("semantic")}
    row |= {"sample_id": name, "source-ref": f"{name}.png", "captured_at": f"{day}T12:00:00Z"}
    (slices / f"{name}.manifest").write_text(json.dumps(row) + "\n")


def test_a_delivery_ends_as_a_registered_model_and_then_nothing_more_starts(world: World) -> None:
    assert world.jobs == ["dataset_job", "staging_job", "tiny_job"]
    dataset, staging, training = world.daemon.runs()[:3]
    assert all(run.is_success for run in (dataset, staging, training))
    assert Registry(world.graph.places.root).versions("tests")[0] == "1.0.0"
    assert staging.tags["dagster/asset_partition_range_end"] == WINDOW
    assert training.tags["training_assets/because"] == "delivery delivery"
    assert {run.tags["dagster/priority"] for run in (dataset, staging, training)} == {"15"}


@pytest.mark.slow
def test_what_is_up_to_date_is_not_trained_again(promoted: Callable) -> None:
    daemon = promoted(on_delivery=True)
    staged(daemon, plan(because="delivery two"))
    assert daemon.tick(FOLLOW_UP).skip_message == f"tiny, {WINDOW}: up to date"


def checked(daemon: Any, cause: Cause = "delivery", well: bool = True) -> Any:
    """What follows a run that checked the delivery."""
    tags = {**run_tags(cause, "test"), "training_assets/delivery": "drop"}
    daemon.instance.add_run(dg.DagsterRun(job_name="dataset_job", tags=tags))
    daemon.finish(dg.DagsterRunStatus.SUCCESS if well else dg.DagsterRunStatus.FAILURE)
    return daemon.tick(FOLLOW_UP)


def test_a_checked_delivery_is_staged_for_the_recipes_that_ask_for_it(automatic: Callable) -> None:
    (request,) = checked(automatic(on_delivery=True)).run_requests
    assert [(one.recipe, one.window, one.cause) for one in plans_of(request.tags)] == [("tiny", WINDOW, "delivery")]
    assert request.tags["dagster/asset_partition_range_start"] == "2026-01-05"


def test_a_delivery_that_no_recipe_asks_for_is_only_checked(automatic: Callable) -> None:
    assert checked(automatic()).skip_message == "delivery drop: no recipe asks for a training of it"


def test_a_delivery_that_the_recipe_does_not_fit_is_not_trained_on(automatic: Callable) -> None:
    tasks = {"detection": {"classes": ["truck"]}, "segmentation": {"classes": ["road", "car"]}}
    found = checked(automatic(recipe={"tasks": tasks}, on_delivery=True))
    assert "tiny does not fit delivery drop: task detection does not know" in found.skip_message


def test_a_bad_delivery_is_followed_by_nothing(automatic: Callable) -> None:
    assert checked(automatic(on_delivery=True), well=False).run_requests == []


def test_a_check_that_somebody_asked_for_by_hand_is_followed_by_nothing(automatic: Callable) -> None:
    assert checked(automatic(on_delivery=True, weekly=True), "manual").run_requests == []


def test_the_weekly_chain_goes_on_with_the_recipes_that_ask_for_it(automatic: Callable) -> None:
    (request,) = checked(automatic(weekly=True), "weekly").run_requests
    assert [(one.recipe, one.cause) for one in plans_of(request.tags)] == [("tiny", "weekly")]


def test_the_weekly_chain_leaves_the_others_alone(automatic: Callable) -> None:
    assert checked(automatic(on_delivery=True), "weekly").run_requests == []


def test_a_delivery_that_another_one_followed_at_once_is_not_trained_on(automatic: Callable) -> None:
    daemon = automatic(on_delivery=True)
    tags = {**run_tags("delivery", "test"), "dagster/run_key": "e" * 64}
    daemon.instance.add_run(dg.DagsterRun(job_name="dataset_job", tags=tags))
    daemon.finish()
    assert "another dataset version is current by now" in daemon.tick(FOLLOW_UP).skip_message


HARD, EASY = {"segmentation/mIoU": 0.9}, {"segmentation/mIoU": 0.6}


def standing(daemon: Any) -> list[SliceState]:
    """What ``status`` tells of the slices."""
    return slices(daemon.instance, ["tiny"], daemon.graph.places)


@pytest.mark.slow
def test_a_slice_below_target_is_trained_on_from_productions_weights(promoted: Callable) -> None:
    daemon = promoted(on_weak_slice="train", slice_targets=HARD)
    mine(daemon)
    assert tick_all(daemon, 4) == ["slice_job", "staging_job", "tiny_job"]
    found = daemon.graph.record("tiny/slice_eval", SliceEvaluation, "fog")
    assert (found.production, found.targets.passed) == ("1.0.0", False)
    assert SliceState("fog", 1, {"tiny": f"below target: {found.targets.failures}"}) in standing(daemon)
    checkpoint = daemon.graph.record("tiny/checkpoint", Checkpoint, WINDOW)
    assert "fog" in checkpoint.training_set.slices
    assert checkpoint.warm_started_from == "tests@1.0.0"
    assert daemon.runs()[-1].tags["training_assets/because"] == "production is below target on slice fog"


def test_a_slice_on_target_starts_nothing(promoted: Callable) -> None:
    daemon = promoted(on_weak_slice="train", slice_targets=EASY)
    mine(daemon, "snow")
    assert tick_all(daemon, 3) == ["slice_job"]
    assert SliceState("snow", 1, {"tiny": "targets met"}) in standing(daemon)


@pytest.mark.parametrize(("policy", "kind"), [("sweep", "sweep.requested"), ("data_request", "data.requested")])
def test_what_the_recipe_wants_instead_is_told(promoted: Callable, policy: str, kind: str) -> None:
    daemon = promoted(on_weak_slice=policy, slice_targets=HARD)
    mine(daemon, policy)
    assert tick_all(daemon, 3) == ["slice_job"]
    events = [json.loads(line) for line in (daemon.graph.places.root / "events.jsonl").read_text().splitlines()]
    (event,) = [one for one in events if one["type"] == kind]
    assert (event["recipe"], event["slice"], event["production"]) == ("tiny", policy, "1.0.0")
    assert [(row["metric"], row["limit"]) for row in event["rows"]] == [("segmentation/mIoU", 0.9)]


def test_several_weak_slices_become_one_training_in_the_window_of_the_last(promoted: Callable) -> None:
    daemon = promoted(on_weak_slice="train", slice_targets=HARD)
    mine(daemon, "hail")
    mine(daemon, "rain", day="2026-01-20")
    daemon.tick(SLICES)
    daemon.execute = False
    (request,) = daemon.tick(FOLLOW_UP).run_requests
    (plan,) = plans_of(request.tags)
    assert (plan.window, plan.slices, plan.warm_start) == ("2026-01-19", ("hail", "rain"), "production")
    assert request.tags["dagster/asset_partition_range_end"] == "2026-01-19"


def test_a_slice_with_a_broken_image_is_refused_in_its_run_and_taken_once_mended(promoted: Callable) -> None:
    daemon = promoted(slice_targets=EASY)
    mine(daemon, "broken")
    image = daemon.graph.inbox / "slices" / "broken.png"
    content = image.read_bytes()
    image.write_bytes(content[:-40])
    assert tick_all(daemon, 2) == ["slice_job"]
    (report,) = (daemon.graph.inbox / "slices" / "_refused").glob("broken-*.report.txt")
    assert "field 'sha256'" in report.read_text()
    mine(daemon, "broken")
    assert tick_all(daemon, 2) == ["slice_job"]
    assert daemon.graph.record("tiny/slice_eval", SliceEvaluation, "broken").targets.passed


def plan(**changes: Any) -> Plan:
    return Plan(**{"recipe": "tiny", "window": WINDOW, "cause": "delivery", "because": "delivery one", **changes})


def staged(daemon: Any, *plans: Plan) -> None:
    """A run that staged windows and carries the plans."""
    daemon.instance.add_run(dg.DagsterRun(job_name="staging_job", tags=staging_request(plans, [WINDOW]).tags))
    daemon.finish(job="staging_job")


def test_a_plan_is_not_started_twice_while_a_run_waits_that_will_do_the_same(automatic: Callable) -> None:
    daemon = automatic()
    staged(daemon, plan())
    staged(daemon, plan(because="delivery two"))
    (request,) = daemon.tick(FOLLOW_UP).run_requests
    waiting = daemon.runs("tiny_job")[0]
    staged(daemon, plan(because="delivery three"))
    assert f"run {waiting.run_id} waits" in daemon.tick(FOLLOW_UP).skip_message
    staged(daemon, plan(cause="slice", slices=("fog",), warm_start="production"))
    (request,) = daemon.tick(FOLLOW_UP).run_requests
    staged(daemon, plan(cause="slice", slices=("rain",), warm_start="production"))
    assert "waits, and will take in what is there" in daemon.tick(FOLLOW_UP).skip_message
    assert request.tags["dagster/priority"] == "20"


def test_a_plan_comes_after_a_run_that_began_before_its_data_was_there(automatic: Callable) -> None:
    daemon = automatic()
    staged(daemon, plan())
    daemon.tick(FOLLOW_UP)
    (training,) = daemon.runs("tiny_job")
    daemon.instance.report_dagster_event(
        dg.DagsterEvent(event_type_value=dg.DagsterEventType.RUN_START.value, job_name="tiny_job"),
        run_id=training.run_id,
    )
    staged(daemon, plan(because="delivery two"))
    assert len(daemon.tick(FOLLOW_UP).run_requests) == 1


def test_a_plan_of_a_recipe_that_is_gone_is_said_and_the_next_one_started(automatic: Callable) -> None:
    daemon = automatic()
    staged(daemon, plan(recipe="gone"), plan())
    assert [request.job_name for request in daemon.tick(FOLLOW_UP).run_requests] == ["tiny_job"]


def test_what_ended_while_no_daemon_was_there_is_followed_up_once(automatic: Callable) -> None:
    daemon = automatic()
    for number in range(follow_up.MOST_RUNS + 5):
        staged(daemon, plan(overrides=(f"seed={number}",)))
    first, second = (daemon.tick(FOLLOW_UP).run_requests for _ in range(2))
    assert (len(first), len(second)) == (follow_up.MOST_RUNS, 5)
    daemon.cursors.clear()
    daemon.tick(FOLLOW_UP)
    assert len(daemon.runs("tiny_job")) == follow_up.MOST_RUNS + 5


def test_runs_that_nothing_follows_hold_nothing_up(automatic: Callable) -> None:
    daemon = automatic()
    for _ in range(follow_up.MOST_RUNS + 5):
        daemon.instance.add_run(dg.DagsterRun(job_name="other_job"))
    daemon.finish()
    staged(daemon, plan())
    assert len(daemon.tick(FOLLOW_UP).run_requests) == 1


def test_a_tick_that_was_killed_is_made_again_and_starts_each_plan_once(automatic: Callable) -> None:
    daemon = automatic()
    staged(daemon, plan())
    for request in daemon.evaluate(FOLLOW_UP).run_requests:
        daemon.start(request)
    daemon.tick(FOLLOW_UP)
    assert len(daemon.runs("tiny_job")) == 1


def test_an_end_that_may_hide_an_earlier_one_waits_a_moment(
    automatic: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = automatic()
    monkeypatch.setattr(follow_up, "SETTLE_SECONDS", 3600.0)
    staged(daemon, plan())
    assert daemon.tick(FOLLOW_UP).run_requests == []
    monkeypatch.setattr(follow_up, "SETTLE_SECONDS", -1.0)
    assert len(daemon.tick(FOLLOW_UP).run_requests) == 1


@pytest.mark.slow
def test_an_inbox_in_s3_feeds_the_same_flow(make_graph: Callable, daemon_of: Callable, recipe: Path, s3: str) -> None:
    import boto3

    with dg.DagsterInstance.ephemeral() as instance:
        graph = with_recipe(make_graph(instance, inbox=f"{s3}/in"), recipe, automation={"on_delivery": True})
        delivery = graph.places.root.parent / "inbox" / "delivery"
        bucket, client = s3.removeprefix("s3://"), boto3.client("s3")
        paths = [path for path in sorted(delivery.rglob("*")) if path.is_file() and path.name != "_SUCCESS"]
        for path in [*paths, delivery / "_SUCCESS"]:
            client.upload_file(str(path), bucket, f"in/{path.relative_to(delivery.parent)}")
        row = json.loads((delivery / "golden_train.manifest").read_text().splitlines()[0])
        client.upload_file(str(delivery / row["source-ref"]), bucket, "in/slices/fog/a.png")
        mined = {**row, "sample_id": "fog", "source-ref": "fog/a.png", "semantic-ref": None}
        client.put_object(Bucket=bucket, Key="in/slices/fog.manifest", Body=json.dumps(mined).encode())
        shutil.rmtree(delivery)

        daemon = daemon_of(graph.defs, instance, execute=True)
        daemon.resources["inbox"].settle = -60.0
        assert tick_all(daemon, 3) == ["dataset_job", "slice_job", "staging_job", "tiny_job"]
        assert all(result.success for result in daemon.results)
        assert graph.record("mined_slice", ShardList, "fog").samples == 1
        assert graph.record("tiny/checkpoint", Checkpoint, WINDOW).training_set.slices == ("fog",)
