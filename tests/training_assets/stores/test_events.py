"""The outbox: every event reaches every sink at least once, whatever is killed or out of reach in between."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.contract.errors import Problem
from trainer.contract.results import Verdict
from trainer.contract.train_config import read_config
from training_assets.gates import GateResult, GateRow
from training_assets.stores.entries import Draft
from training_assets.stores.events import (
    CandidateBelowTarget,
    DataRequested,
    Event,
    GateFailed,
    ModelPromoted,
    ModelRegistered,
    Outbox,
    Refused,
    Subject,
    SweepRequested,
    Unreachable,
    gate_events,
    promotion_events,
    registration_events,
    run_gate_events,
    slice_refused,
    wanted_for_slice,
    weekly_sweep,
)
from training_assets.stores.registry import Registry
from training_assets.stores.sinks import JsonLines

SUBJECT = Subject("scenes", "scenes_multitask", "2026-02-23", "ab12cd34", "c" * 64)
AP = "detection/AP50"


class Memory:
    """A sink that keeps what it gets, and fails as it is told to."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.got: list[Event] = []
        self.fails: dict[str, Exception] = {}

    def send(self, event: Event) -> None:
        if event.type in self.fails:
            raise self.fails[event.type]
        self.got.append(event)


def row(name: str, margin: float) -> GateRow:
    passed, verdict = margin >= 0, "passed" if margin >= 0 else "failed"
    return GateRow(metric=AP, slice=name, value=0.5 + margin, limit=0.5, passed=passed, verdict=verdict, margin=margin)


def failed_gate(*rows: GateRow, name: str = "targets_met") -> GateResult:
    return GateResult(name=name, passed=False, severity="block", rows=rows)


def missed() -> list[Event]:
    return list(gate_events([failed_gate(row("all", 0.1), row("night", -0.25))], SUBJECT))


def emit(outbox: Outbox, events: list[Event]) -> list[str]:
    said: list[str] = []
    outbox.emit(events, said.append)
    return said


def test_a_missed_target_of_a_slice_is_a_failed_gate_and_a_candidate_below_target() -> None:
    gate, candidate = missed()
    assert isinstance(gate, GateFailed)
    assert isinstance(candidate, CandidateBelowTarget)
    assert (gate.gate, gate.severity, [one.slice for one in gate.rows]) == ("targets_met", "block", ["night"])
    assert "night: detection AP50 0.25, asked for at least 0.5: missed by 0.25" in gate.message
    assert candidate.message == "run ab12cd34 is below target on night"
    assert (candidate.slices[0].value, candidate.slices[0].limit, candidate.slices[0].margin) == (0.25, 0.5, -0.25)
    assert (gate.project, gate.recipe, gate.window, gate.run_id) == (
        "scenes", "scenes_multitask", "2026-02-23", "ab12cd34",
    )  # fmt: skip


def test_only_targets_of_slices_make_a_candidate_below_target() -> None:
    overall = gate_events([failed_gate(row("all", -0.1))], SUBJECT)
    regression = gate_events([failed_gate(row("night", -0.1), name="no_regression")], SUBJECT)
    assert [one.type for one in (*overall, *regression)] == ["gate.failed", "gate.failed"]


def test_what_is_passed_is_no_event() -> None:
    passed = GateResult(name="targets_met", passed=True, severity="block", rows=(row("night", 0.1),))
    assert list(gate_events([passed], SUBJECT)) == []
    fine = Verdict(gate="drift", passed=True, severity="abort", message="")
    assert list(run_gate_events([fine], SUBJECT)) == []


def test_a_gate_inside_the_training_blocks_when_it_ends_the_run_and_warns_otherwise() -> None:
    verdicts = [Verdict(gate="drift", passed=False, severity=how, message="brightness") for how in ("abort", "warn")]
    assert [one.severity for one in run_gate_events(verdicts, SUBJECT)] == ["block", "warn"]  # type: ignore[union-attr]


def test_the_same_thing_has_the_same_id_and_another_thing_another() -> None:
    assert [one.id for one in missed()] == [one.id for one in missed()]
    others = [
        *missed(),
        *gate_events([failed_gate(row("night", -0.3))], SUBJECT),
        *gate_events([failed_gate(row("night", -0.25), name="no_regression")], SUBJECT),
        *gate_events([failed_gate(row("night", -0.25))], Subject("scenes", "s", "2026-02-23", "ab12cd34", "d" * 64)),
    ]
    assert len({one.id for one in others}) == len(others)


def test_an_event_is_sent_once_to_each_sink_however_often_it_is_said(tmp_path: Path) -> None:
    sinks = [Memory("one"), Memory("two")]
    outbox = Outbox(tmp_path, sinks)
    for _ in range(3):
        assert emit(outbox, missed()) == []
    assert emit(Outbox(tmp_path, sinks), missed()) == []
    assert [[one.type for one in sink.got] for sink in sinks] == [["gate.failed", "candidate.below_target"]] * 2


def test_what_a_sink_could_not_take_waits_and_goes_with_the_next_event(tmp_path: Path) -> None:
    reachable, away = Memory("reachable"), Memory("away")
    away.fails = {"gate.failed": Unreachable("no route"), "candidate.below_target": Unreachable("no route")}
    outbox = Outbox(tmp_path, [reachable, away])
    assert emit(outbox, missed()) == [f"events wait in {outbox.root}: away cannot be reached: no route"]
    assert len(reachable.got) == 2
    assert len(outbox.waiting("away")) == 2
    away.fails = {}
    later = list(gate_events([failed_gate(row("fog", -0.1))], SUBJECT))
    assert emit(outbox, later) == []
    assert [one.id for one in away.got[:2]] == [one.id for one in missed()]
    assert {one.id for one in away.got} == {one.id for one in (*missed(), *later)}
    assert outbox.waiting("away") == []


def test_an_event_that_a_sink_refuses_does_not_hold_up_the_others(tmp_path: Path) -> None:
    sink = Memory()
    sink.fails = {"gate.failed": Refused("too large")}
    outbox = Outbox(tmp_path, [sink])
    (said,) = emit(outbox, missed())
    assert "memory did not take it: too large" in said
    assert [one.type for one in sink.got] == ["candidate.below_target"]
    assert [one.type for one in outbox.waiting("memory")] == ["gate.failed"]


def test_a_sink_that_is_added_later_gets_nothing_of_before(tmp_path: Path) -> None:
    emit(Outbox(tmp_path, [Memory("old")]), missed())
    new = Memory("new")
    emit(Outbox(tmp_path, [Memory("old"), new]), [])
    assert new.got == []


def in_another_process_that_is_killed(outbox: Outbox, events: list[Event]) -> None:
    child = os.fork()
    if child == 0:
        outbox.emit(events, print)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("sent", [False, True], ids=["before it is sent", "after it is sent"])
def test_a_kill_while_an_event_is_sent_loses_nothing(tmp_path: Path, sent: bool) -> None:
    class Killing(JsonLines):
        def send(self, event: Event) -> None:
            if sent:
                super().send(event)
            os.kill(os.getpid(), signal.SIGKILL)

    file = tmp_path / "events.jsonl"
    in_another_process_that_is_killed(Outbox(tmp_path, [Killing(file)]), missed()[:1])
    outbox = Outbox(tmp_path, [JsonLines(file)])
    assert emit(outbox, []) == []
    got = [json.loads(line)["id"] for line in file.read_text().splitlines()]
    assert got == [missed()[0].id] * (2 if sent else 1), "at least once, and the id tells the second from another"
    assert outbox.waiting("jsonl") == []


@pytest.fixture
def registered(tmp_path: Path, draft: Callable[..., Draft], files: dict[str, Path]) -> Registry:
    registry = Registry(tmp_path / "store")
    registry.register(draft(), files)
    registry.promote("scenes", "1.0.0", "candidate/detection/2026-02-24", by="test")
    return registry


def test_a_registration_is_an_event_with_its_version_and_aliases_once(registered: Registry) -> None:
    sink = Memory()
    for _ in range(2):
        assert emit(Outbox(registered.root, [sink]), list(registration_events(registered, "scenes"))) == []
    (event,) = sink.got
    assert isinstance(event, ModelRegistered)
    assert (event.version, event.message) == ("1.0.0", "scenes@1.0.0 is registered")
    assert event.aliases == ("candidate/detection/2026-02-24",)
    entry = registered.find("scenes@1.0.0")
    assert event.checkpoint_sha256 == entry.files["best.pt"].sha256
    assert (event.window, event.at) == ("2026-02-23", entry.created_at)


def test_a_registration_that_was_killed_before_its_event_is_told_with_the_next(
    registered: Registry, draft: Callable[..., Draft], files: dict[str, Path]
) -> None:
    registered.register(draft("ef56gh78"), files)
    sink = Memory()
    assert emit(Outbox(registered.root, [sink]), list(registration_events(registered, "scenes"))) == []
    assert {event.version for event in sink.got} == {"1.0.0", "1.1.0"}  # type: ignore[union-attr]


FAILED = (row("all", 0.1), row("all", -0.2))
SLICE_GATE = GateResult(name="slice_targets_met", passed=False, severity="warn", rows=FAILED)


def wanted(recipe: Path, kind: str = "sweep", frames: str = "abc") -> Event:
    return wanted_for_slice(kind, read_config(recipe, environment={}), "fog", "1.2.0", frames, SLICE_GATE)


def test_what_is_wanted_for_a_slice_names_it_the_version_and_the_targets_that_are_missed(recipe: Path) -> None:
    event = wanted(recipe)
    assert isinstance(event, SweepRequested)
    assert (event.project, event.recipe, event.cause, event.slice) == ("tests", "tiny", "slice", "fog")
    assert (event.production, [one.margin for one in event.rows]) == ("1.2.0", [-0.2])
    assert event.message == "a sweep is wanted for tiny: tests@1.2.0 is below target on slice fog"
    assert isinstance(wanted(recipe, "data_request"), DataRequested)


def test_it_is_wanted_once_for_the_same_frames_and_version(recipe: Path, tmp_path: Path) -> None:
    sink = Memory()
    outbox = Outbox(tmp_path, [sink])
    emit(outbox, [wanted(recipe), wanted(recipe), wanted(recipe, frames="other"), wanted(recipe, "data_request")])
    assert [event.type for event in sink.got] == ["sweep.requested", "sweep.requested", "data.requested"]


def test_a_weekly_sweep_is_wanted_once_a_week(recipe: Path, tmp_path: Path) -> None:
    sink, config = Memory(), read_config(recipe, environment={})
    for week in ("2026-01-05", "2026-01-05", "2026-01-12"):
        emit(Outbox(tmp_path, [sink]), [weekly_sweep(config, week)])
    assert len(sink.got) == 2


def test_a_refused_slice_is_told_with_the_first_of_its_problems(tmp_path: Path) -> None:
    problems = [Problem("slices/fog.manifest", str(n), "better", n) for n in range(1, 100)]
    event = slice_refused("fog", "a" * 64, "report.txt", problems)
    assert event.message == "slice 'fog' is refused: 99 problems, see report.txt"
    assert len(event.problems) == 20
    assert event.problems[0].startswith("slices/fog.manifest:1: found 1")
    sink = Memory()
    outbox = Outbox(tmp_path, [sink])
    outbox.keep(event)
    assert sink.got == []
    outbox.deliver(lambda _: None)
    assert sink.got == [event]


def test_a_promotion_is_an_event_of_the_newest_move_once(
    registered: Registry, draft: Callable[..., Draft], files: dict[str, Path]
) -> None:
    assert list(promotion_events(registered, "scenes")) == []
    registered.register(draft("zzzzzzzz"), files)
    registered.promote("scenes", "1.0.0", by="ann")
    registered.promote("scenes", "1.1.0", by="ben", reason="better at night")
    (event,), (again,) = promotion_events(registered, "scenes"), promotion_events(registered, "scenes")
    assert isinstance(event, ModelPromoted)
    assert event == again
    assert (event.alias, event.sequence, event.version, event.previous) == ("production", 2, "1.1.0", "1.0.0")
    assert (event.by, event.reason) == ("ben", "better at night")
    registered.promote("scenes", "1.0.0", by="ann")
    (back,) = promotion_events(registered, "scenes")
    assert back.id != event.id
