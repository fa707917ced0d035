"""The sinks: whole lines in a file, and a bus that says what it did not take."""

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

from training_assets.gates import GateResult, GateRow
from training_assets.profiles import parse_profile
from training_assets.stores.events import Event, Outbox, Refused, Subject, Unreachable, gate_events
from training_assets.stores.sinks import EventBridge, JsonLines, sinks_of


@pytest.fixture
def event() -> Event:
    row = GateRow(
        metric="detection/AP50", slice="night", value=0.2, limit=0.5, passed=False, verdict="failed", margin=-0.3
    )
    gate = GateResult(name="targets_met", passed=False, severity="block", rows=(row,))
    return next(gate_events([gate], Subject("scenes", "scenes_multitask", "2026-02-23", "ab12cd34", "c" * 64)))


def test_each_event_is_a_line(tmp_path: Path, event: Event) -> None:
    sink = JsonLines(tmp_path / "events.jsonl")
    sink.send(event)
    sink.send(event)
    lines = [json.loads(line) for line in sink.path.read_text().splitlines()]
    assert lines == [json.loads(event.model_dump_json())] * 2
    assert lines[0]["type"] == "gate.failed"


@pytest.mark.parametrize("left", ['{"id": "half', "", '{"whole": 1}\n{"id": "half', '{"whole": 1}\n'])
def test_a_line_that_a_killed_writer_left_half_written_does_not_spoil_the_next(
    tmp_path: Path, event: Event, left: str
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(left)
    JsonLines(path).send(event)
    *before, last = [json.loads(line) for line in path.read_text().splitlines()]
    assert before == [{"whole": 1}] * left.count("\n")
    assert last["id"] == event.id


def test_a_file_that_cannot_be_written_is_out_of_reach(tmp_path: Path, event: Event) -> None:
    with pytest.raises(Unreachable, match=r"events\.jsonl"):
        JsonLines(tmp_path / "nowhere" / "events.jsonl").send(event)


class Bus:
    """A bus of its own with a queue behind it that gets all that ``training-assets`` says."""

    def __init__(self) -> None:
        self.name = f"bus-{uuid4().hex[:8]}"
        self.events, self.queues = boto3.client("events"), boto3.client("sqs")

    def open(self) -> None:
        self.events.create_event_bus(Name=self.name)
        self.queue = self.queues.create_queue(QueueName=self.name)["QueueUrl"]
        arn = self.queues.get_queue_attributes(QueueUrl=self.queue, AttributeNames=["QueueArn"])
        pattern = json.dumps({"source": ["training-assets"]})
        self.events.put_rule(Name="all", EventBusName=self.name, EventPattern=pattern)
        target = {"Id": "queue", "Arn": arn["Attributes"]["QueueArn"]}
        self.events.put_targets(Rule="all", EventBusName=self.name, Targets=[target])

    def received(self) -> Iterator[dict]:
        for message in self.queues.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages", []):
            yield json.loads(message["Body"])


@pytest.fixture
def bus(s3: str) -> Bus:
    return Bus()


def test_eventbridge_gets_the_event_as_detail_and_its_type_as_detail_type(bus: Bus, event: Event) -> None:
    bus.open()
    EventBridge(bus.name, "training-assets").send(event)
    (message,) = bus.received()
    assert (message["source"], message["detail-type"]) == ("training-assets", "gate.failed")
    assert message["detail"] == json.loads(event.model_dump_json())


def test_what_a_bus_refuses_stays_in_the_outbox_until_it_takes_it(bus: Bus, event: Event, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, [EventBridge(bus.name, "training-assets")])
    said: list[str] = []
    outbox.emit([event], said.append)
    assert len(said) == 1
    assert bus.name in said[0]
    assert [one.id for one in outbox.waiting("eventbridge")] == [event.id]
    bus.open()
    outbox.emit([], said.append)
    assert len(said) == 1
    assert [message["detail"]["id"] for message in bus.received()] == [event.id]
    assert outbox.waiting("eventbridge") == []


def test_an_entry_that_a_call_did_not_take_is_refused_though_the_call_succeeds(bus: Bus, event: Event) -> None:
    bus.open()
    with pytest.raises(Refused, match="Source is not valid"):
        EventBridge(bus.name, "").send(event)


def test_a_bus_out_of_reach_is_said_to_be(s3: str, event: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
        EventBridge("bus", "training-assets").send(event)


def test_a_profile_always_has_the_file_and_a_bus_when_it_names_one() -> None:
    given = {"inbox": "d", "store": "s", "recipes": "r", "launcher": "local", "windows": {"start": "2024-01-01"}}
    (file,) = sinks_of(plain := parse_profile(given, Path("p.yaml"), {}))
    assert isinstance(file, JsonLines)
    assert file.path == plain.store / "events.jsonl"
    named = parse_profile({**given, "events": {"event_bus": "models"}}, Path("p.yaml"), {})
    bus = sinks_of(named)[1]
    assert isinstance(bus, EventBridge)
    assert (bus.bus, bus.source) == ("models", "training-assets")
