"""The delivery sensor: each content once, complete, one after the other, in the order of arrival."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from dagster._core.storage.tags import WILL_RETRY_TAG
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.contract.delivery import FILES
from trainer.contract.files import sha256_of
from training_assets.places import Places
from training_assets.sensors.deliveries import delivery_sensor
from training_assets.stores.inbox import Arrival, DeliveryFound, Incomplete, LocalInbox

SENSOR = "delivery_sensor"
GOLDEN = {
    "golden/train": "golden_train.manifest",
    "golden/val": "golden_val.manifest",
    "golden/test": "golden_test.manifest",
    "golden/slices": "slices.yaml",
}


@pytest.fixture(scope="session")
def location() -> dg.Definitions:
    """The sensor and nothing else: what its job does is none of its business."""

    @dg.job
    def dataset_job() -> None: ...

    return dg.Definitions(sensors=[delivery_sensor(30)], jobs=[dataset_job])


@pytest.fixture
def daemon(location: dg.Definitions, instance: dg.DagsterInstance, tmp_path: Path, daemon_of: Callable) -> Any:
    return daemon_of(location, instance, inbox=LocalInbox(tmp_path / "inbox"), places=Places(tmp_path / "store"))


def upload(root: Path, content: str = "one", files: tuple[str, ...] = (*FILES, "_SUCCESS")) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for file in files:
        (root / file).unlink(missing_ok=True)
        (root / file).write_text("" if file == "_SUCCESS" else f"{content} {file}")


def observed(instance: dg.DagsterInstance) -> dict[str, list[str]]:
    """The data versions that each golden asset was observed with, the oldest first."""
    found = {}
    for key in GOLDEN:
        records = instance.fetch_observations(dg.AssetKey(key.split("/")), limit=100).records
        found[key] = [
            record.asset_observation.tags["dagster/data_version"]
            for record in reversed(records)
            if record.asset_observation and record.asset_observation.tags
        ]
    return found


def test_a_delivery_is_observed_with_its_contents_and_checked_once(daemon: Any, tmp_path: Path) -> None:
    upload(tmp_path / "inbox" / "drop")
    (request,) = daemon.tick(SENSOR).run_requests
    assert request.run_config == {"ops": {"dataset_version": {"config": {"delivery": "drop"}}}}
    assert request.tags["training_assets/cause"] == "delivery"
    assert dg.AssetKey(["golden", "train"]) not in request.asset_selection
    digests = {key: [sha256_of(tmp_path / "inbox" / "drop" / file)] for key, file in GOLDEN.items()}
    assert observed(daemon.instance) == digests
    daemon.finish()
    assert daemon.tick(SENSOR).skip_message == "nothing new"
    assert observed(daemon.instance) == digests
    assert len(daemon.runs()) == 1


@pytest.mark.parametrize("missing", [*FILES, "_SUCCESS"])
def test_half_a_delivery_starts_nothing_and_says_what_is_missing(daemon: Any, tmp_path: Path, missing: str) -> None:
    upload(tmp_path / "inbox" / "drop", files=tuple(file for file in (*FILES, "_SUCCESS") if file != missing))
    said = daemon.tick(SENSOR).skip_message
    assert said.startswith("drop is not complete: ")
    assert missing in said
    assert observed(daemon.instance)["golden/train"] == []
    upload(tmp_path / "inbox" / "drop", files=(missing, "_SUCCESS"))
    assert len(daemon.tick(SENSOR).run_requests) == 1


def touch(inbox: Path) -> None:
    for path in (inbox / "drop").iterdir():
        path.touch()


def upload_again(inbox: Path) -> None:
    upload(inbox / "drop")


def upload_again_elsewhere(inbox: Path) -> None:
    upload(inbox / "drop-copy")


@pytest.mark.parametrize("between", [False, True], ids=["at_once", "after_another_delivery"])
@pytest.mark.parametrize("again", [touch, upload_again, upload_again_elsewhere])
def test_the_same_content_again_starts_nothing_and_observes_nothing(
    daemon: Any, tmp_path: Path, again: Callable[[Path], None], between: bool
) -> None:
    upload(tmp_path / "inbox" / "drop")
    daemon.tick(SENSOR)
    daemon.finish()
    if between:
        upload(tmp_path / "inbox" / "other", "other")
        daemon.tick(SENSOR)
        daemon.finish()
    before, runs = observed(daemon.instance), len(daemon.runs())
    again(tmp_path / "inbox")
    found = daemon.tick(SENSOR)
    assert found.run_requests == []
    assert "took up the same content" in found.skip_message
    assert (observed(daemon.instance), len(daemon.runs())) == (before, runs)


def test_changed_content_under_a_known_name_is_another_delivery(daemon: Any, tmp_path: Path) -> None:
    upload(tmp_path / "inbox" / "drop")
    daemon.tick(SENSOR)
    daemon.finish()
    upload(tmp_path / "inbox" / "drop", "two")
    daemon.tick(SENSOR)
    assert len(daemon.runs()) == 2
    assert [len(versions) for versions in observed(daemon.instance).values()] == [2, 2, 2, 2]


def test_what_somebody_pinned_by_hand_is_not_checked_again(daemon: Any, tmp_path: Path) -> None:
    upload(tmp_path / "inbox" / "drop")
    digests = dict(LocalInbox(tmp_path / "inbox").find("drop").digests)
    (tmp_path / "store" / "datasets" / "ab12").mkdir(parents=True)
    record = {"version": "ab12" * 16, "files": digests}
    (tmp_path / "store" / "datasets" / "ab12" / "dataset.json").write_text(json.dumps(record))
    assert "its content is dataset version ab12ab12ab12" in daemon.tick(SENSOR).skip_message


def test_a_second_delivery_waits_until_the_first_was_checked(daemon: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        upload(tmp_path / "inbox" / name, name)
    assert daemon.tick(SENSOR).run_requests[0].tags["training_assets/delivery"] == "a"
    (first,) = daemon.runs()
    assert daemon.tick(SENSOR).skip_message == f"run {first.run_id} checks a delivery: the next one comes after it"
    daemon.instance.add_run_tags(first.run_id, {WILL_RETRY_TAG: "true"})
    daemon.finish(dg.DagsterRunStatus.FAILURE)
    assert "checks a delivery" in daemon.tick(SENSOR).skip_message, "it will be tried again"
    daemon.instance.add_run_tags(first.run_id, {WILL_RETRY_TAG: "false"})
    assert daemon.tick(SENSOR).run_requests[0].tags["training_assets/delivery"] == "b"


def test_a_bad_delivery_does_not_stop_the_next_one(daemon: Any, tmp_path: Path) -> None:
    upload(tmp_path / "inbox" / "bad", "bad")
    daemon.tick(SENSOR)
    daemon.finish(dg.DagsterRunStatus.FAILURE)
    upload(tmp_path / "inbox" / "good", "good")
    assert daemon.tick(SENSOR).run_requests[0].tags["training_assets/delivery"] == "good"


def test_a_cursor_that_somebody_broke_starts_nothing_twice(daemon: Any, tmp_path: Path) -> None:
    upload(tmp_path / "inbox" / "drop")
    daemon.tick(SENSOR)
    daemon.finish()
    daemon.cursors[SENSOR] = "not a cursor"
    assert "took up the same content" in daemon.tick(SENSOR).skip_message


class FakeInbox:
    """An inbox whose clock the test moves."""

    settle = 60.0

    def __init__(self) -> None:
        self.now = datetime.now(UTC) - timedelta(days=1)
        self.there: dict[str, tuple[datetime, str, str]] = {}
        self.mine = uuid4().hex

    def put(self, name: str, content: str, missing: str = "", arrived: datetime | None = None) -> None:
        self.there[name] = (arrived or self.now, content, missing)

    def arrivals(self) -> list[Arrival]:
        return sorted(
            Arrival(f"{at.isoformat()} {name}", name, at, f"{content}{missing}", missing)
            for name, (at, content, missing) in self.there.items()
        )

    def look(self, name: str) -> DeliveryFound | Incomplete:
        at, content, missing = self.there[name]
        if missing:
            return Incomplete(name, missing)
        return DeliveryFound(name, f"{at.isoformat()} {name}", dict.fromkeys(FILES, f"{content} {self.mine}"))


@pytest.fixture
def fake(location: dg.Definitions, instance: dg.DagsterInstance, tmp_path: Path, daemon_of: Callable) -> Any:
    return daemon_of(location, instance, inbox=FakeInbox(), places=Places(tmp_path))


def delivered(daemon: Any) -> list[str]:
    return [run.tags["training_assets/delivery"] for run in daemon.runs()]


def test_two_deliveries_of_the_same_moment_are_both_taken_in_the_order_of_their_names(fake: Any) -> None:
    inbox = fake.resources["inbox"]
    for name in ("b", "a"):
        inbox.put(name, f"content of {name}")
    for _ in range(3):
        fake.tick(SENSOR)
        fake.finish()
    assert delivered(fake) == ["a", "b"]


def test_what_arrived_a_moment_ago_is_left_to_settle_with_all_that_comes_after_it(fake: Any) -> None:
    inbox = fake.resources["inbox"]
    inbox.put("fresh", "fresh", arrived=datetime.now(UTC))
    inbox.put("skewed", "skewed", arrived=datetime.now(UTC) + timedelta(hours=1))
    found = fake.tick(SENSOR)
    assert found.run_requests == []
    assert "fresh arrived at" in found.skip_message
    inbox.put("earlier", "earlier", arrived=datetime.now(UTC) - timedelta(minutes=2))
    fake.tick(SENSOR)
    assert delivered(fake) == ["earlier"]


def test_a_slow_upload_is_not_passed_over_when_its_last_file_counts_from_when_it_began(fake: Any) -> None:
    """As an upload in parts to S3 does: complete only now, but by its times older than what was taken meanwhile."""
    inbox = fake.resources["inbox"]
    inbox.put("slow", "slow", missing="golden_train.manifest missing")
    fake.tick(SENSOR)
    began = inbox.now
    inbox.now += timedelta(hours=1)
    inbox.put("quick", "quick")
    fake.tick(SENSOR)
    fake.finish()
    inbox.put("slow", "slow", arrived=began)
    fake.tick(SENSOR)
    assert delivered(fake) == ["quick", "slow"]


NAMES, CONTENTS = st.sampled_from("ab"), st.sampled_from("xyz")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("upload"), NAMES, CONTENTS),
        st.tuples(st.just("upload half"), NAMES, CONTENTS),
        st.tuples(st.just("touch"), NAMES),
        st.tuples(st.just("tick")),
        st.tuples(st.just("kill in a tick"), st.sampled_from(["before", "observed", "started"])),
        st.tuples(st.just("lose the cursor")),
        st.tuples(st.just("end the run"), st.booleans()),
    ),
    max_size=14,
)


def play(daemon: Any, step: tuple) -> None:
    inbox = daemon.resources["inbox"]
    inbox.now += timedelta(seconds=1)
    match step:
        case ("upload", name, content):
            inbox.put(name, content)
        case ("upload half", name, content):
            inbox.put(name, content, missing="slices.yaml missing")
        case ("touch", name) if name in inbox.there:
            _, content, missing = inbox.there[name]
            inbox.put(name, content, missing)
        case ("tick",):
            daemon.tick(SENSOR)
        case ("kill in a tick", moment):
            found = daemon.evaluate(SENSOR)
            for request in found.run_requests if moment == "started" else ():
                daemon.start(request)
        case ("lose the cursor",):
            daemon.cursors.clear()
        case ("end the run", well):
            daemon.finish(dg.DagsterRunStatus.SUCCESS if well else dg.DagsterRunStatus.FAILURE)


@pytest.fixture(scope="module")
def shared() -> Iterator[dg.DagsterInstance]:
    """One instance for all examples: their contents differ."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(steps=STEPS)
def test_whatever_happens_each_content_that_stays_is_started_once(
    location: dg.Definitions, shared: dg.DagsterInstance, daemon_of: Callable, steps: list[tuple]
) -> None:
    inbox = FakeInbox()
    daemon = daemon_of(location, shared, inbox=inbox, places=Places(Path("/nowhere")))
    for step in steps:
        play(daemon, step)
    for _ in range(4):
        daemon.finish()
        daemon.tick(SENSOR)
    daemon.finish()
    assert daemon.tick(SENSOR).run_requests == [], "all that there is was started"
    started = [run.tags["dagster/run_key"] for run in daemon.runs()]
    assert len(started) == len(set(started))
    complete = {name for name, (_, _, missing) in inbox.there.items() if not missing}
    there = {found.digest for name in complete if isinstance(found := inbox.look(name), DeliveryFound)}
    assert there <= set(started)
