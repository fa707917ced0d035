import time
from dataclasses import dataclass

import pytest

from trainer.contract.telemetry import PHASES
from trainer.engine.phases import Phases, Row

SLEEP = {"data_wait": 0.01, "forward": 0.02, "backward": 0.03, "optimizer": 0.01}


def run_step(phases: Phases, sleep: dict[str, float] = SLEEP) -> None:
    for phase, seconds in sleep.items():
        time.sleep(seconds)
        phases.mark(phase)


def collected(phases: Phases, **options) -> list[Row]:
    rows: list[Row] = []
    phases.collect(rows.append, **options)
    phases.start()
    return rows


def test_the_phases_of_all_steps_sum_to_the_time_that_passed():
    phases = Phases()
    rows = collected(phases)
    begun = time.perf_counter()
    for _ in range(3):
        run_step(phases)
    phases.mark("callbacks")
    passed = time.perf_counter() - begun
    phases.finish()
    assert sum(sum(row.seconds.values()) for row in rows) == pytest.approx(passed, rel=0.02)
    assert all(row.seconds[phase] >= seconds for row in rows for phase, seconds in SLEEP.items())


def test_what_comes_after_a_step_belongs_to_it_until_the_next_one_waits_for_data():
    phases = Phases()
    rows = collected(phases)
    run_step(phases)
    time.sleep(0.02)
    phases.mark("checkpoint")
    run_step(phases)
    phases.finish()
    assert [row.seconds["checkpoint"] >= 0.02 for row in rows] == [True, False]
    assert rows[1].seconds["checkpoint"] == 0.0


def test_what_was_before_the_start_is_in_no_step():
    phases = Phases()
    time.sleep(0.05)
    phases.mark("callbacks")
    rows = collected(phases)
    run_step(phases)
    phases.finish()
    assert len(rows) == 1
    assert sum(rows[0].seconds.values()) < sum(SLEEP.values()) + 0.04


def test_nothing_is_kept_when_nobody_collects():
    phases = Phases()
    for _ in range(3):
        run_step(phases, dict.fromkeys(SLEEP, 0.0))
    rows = collected(phases)
    phases.finish()
    assert rows == []


def test_a_step_of_the_stopwatch_costs_microseconds():
    phases, rows = Phases(), []
    phases.collect(rows.append)
    begun = time.thread_time()
    for _ in range(20_000):
        for phase in PHASES:
            phases.mark(phase)
    assert (time.thread_time() - begun) / 20_000 < 50e-6


@dataclass
class Moment:
    """A device's event whose time is its number: milliseconds."""

    number: int

    def query(self) -> bool:
        return True

    def elapsed_time(self, end_event: "Moment") -> float:
        return end_event.number - self.number


def test_a_sampled_step_has_the_devices_moments_from_the_end_of_the_step_before():
    made: list[Moment] = []

    def record() -> Moment:
        made.append(Moment(len(made)))
        return made[-1]

    phases = Phases()
    rows = collected(phases, record=record, sample_every=4)
    for _ in range(9):
        run_step(phases, dict.fromkeys(SLEEP, 0.0))
    phases.finish()
    assert [len(row.moments) for row in rows] == [0, 0, 0, 5, 0, 0, 0, 5, 0]
    assert [phase for phase, _ in rows[3].moments] == ["optimizer", *SLEEP]
    numbers = [event.number for _, event in rows[3].moments]
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    # Two steps of four record: the sampled one and, for its beginning, the one before.
    assert len(made) == 4 * len(SLEEP)
