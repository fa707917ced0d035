import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.contract.bottleneck import THRESHOLDS, WARM_UP, Conditions, phase_table, summarise, verdict
from trainer.contract.telemetry import PHASES, STEP_COLUMNS, SYSTEM_COLUMNS

CONDITIONS = Conditions(batch_size=8, workers=2)
COMPUTE = {"data_wait": 0.01, "forward": 0.30, "backward": 0.60, "optimizer": 0.09}
NO_SYSTEM = pd.DataFrame(columns=["node", *SYSTEM_COLUMNS, "attempt"])


def steps(number: int = 20, rank: int = 0, attempt: int = 1, first: int = 1, **phases: float | None) -> pd.DataFrame:
    """``number`` equal steps of a rank; phases in seconds, what is not given is 0 (null for all-reduce and device)."""
    row = dict.fromkeys(STEP_COLUMNS, np.nan) | dict.fromkeys(PHASES, 0.0) | {"all_reduce": np.nan} | phases
    frame = pd.DataFrame([row] * number).astype(float)
    frame["step"] = range(first, first + number)
    frame["epoch"], frame["time"] = (frame["step"] - 1) // 10, 1e9 + frame["step"]
    return frame.assign(rank=rank, attempt=attempt)


def joined(*frames: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(frames).sort_values(["attempt", "step", "rank"], ignore_index=True)


@pytest.mark.parametrize(
    ("shares", "bottleneck"),
    [
        (COMPUTE, "compute"),
        (COMPUTE | {"data_wait": 0.62}, "input"),
        (COMPUTE | {"all_reduce": 0.4}, "communication"),
        (COMPUTE | {"checkpoint": 0.2}, "checkpoint"),
        (COMPUTE | {"callbacks": 0.2}, "callbacks"),
        (COMPUTE | {"data_wait": 0.3, "all_reduce": 0.2}, "input"),
        (COMPUTE | {"data_wait": 0.2, "all_reduce": 0.3}, "communication"),
        ({}, "unknown"),
        (dict.fromkeys(PHASES, 0.0), "unknown"),
    ],
)
def test_the_largest_share_over_its_threshold_is_the_bottleneck(shares, bottleneck):
    assert verdict(shares)[0] == bottleneck


def test_the_sentence_has_the_share_and_what_to_do():
    assert verdict({"data_wait": 0.38, "forward": 0.62}, workers=3)[1] == (
        "input-bound: 38% of the step waits for data; raise data.workers (3 now)"
    )
    assert verdict(COMPUTE)[1] == "compute-bound: 99% of the step is forward, backward and optimizer"


def test_more_workers_are_not_advised_where_they_cannot_help():
    waiting = {"data_wait": 0.5, "forward": 0.5}
    assert "data.workers" in verdict(waiting, cpu_percent=50, iowait_percent=1)[1]
    assert "smaller images" in verdict(waiting, cpu_percent=97, iowait_percent=1)[1]
    assert "faster storage" in verdict(waiting, cpu_percent=60, iowait_percent=35)[1]


@given(st.dictionaries(st.sampled_from(PHASES), st.floats(0, 1)), st.floats(0, 1))
def test_a_verdict_always_says_what_it_found_and_never_calls_a_share_below_its_threshold(shares, waiting):
    bottleneck, text = verdict(shares, waiting, 1)
    assert text.startswith(bottleneck)
    of = {
        "input": shares.get("data_wait", 0),
        "communication": shares.get("all_reduce", 0) - waiting,
        "straggler": waiting,
        "checkpoint": shares.get("checkpoint", 0),
        "callbacks": shares.get("callbacks", 0),
    }
    over = {name for name, share in of.items() if share >= THRESHOLDS[name]}
    if sum(shares.values()) > 0:
        assert (bottleneck in over) if over else (bottleneck == "compute")


phase_seconds = st.just(0.0) | st.floats(1e-9, 10)  # a clock of nanoseconds


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(
    st.fixed_dictionaries(dict.fromkeys([phase for phase in PHASES if phase != "all_reduce"], phase_seconds)),
    st.one_of(st.none(), st.floats(0, 1)),
    st.integers(1, 30),
)
def test_shares_sum_to_one_and_phases_to_the_step(phases, part, number):
    exposed = None if part is None else part * phases["backward"]
    frame = steps(number, all_reduce=exposed, **phases)
    table = phase_table(frame)
    assert table[list(PHASES)].sum(axis=1).to_numpy() == pytest.approx(sum(phases.values()))
    assert table["all_reduce"].to_numpy() == pytest.approx(exposed or 0.0)
    summary = summarise(frame, NO_SYSTEM, CONDITIONS)
    trained = sum(phases.values()) - phases["evaluation"]
    if trained > 0:
        assert sum(summary.shares.values()) == pytest.approx(1.0)
        assert summary.step_p50_ms == pytest.approx(trained * 1000)
        assert summary.samples_per_second == pytest.approx(8 / trained)


def test_steps_without_a_timed_all_reduce_get_the_mean_part_of_their_backward_pass():
    timed, untimed = steps(10, backward=0.8, all_reduce=0.2), steps(10, first=11, backward=0.4)
    table = phase_table(joined(timed, untimed))
    assert table["all_reduce"].tolist() == pytest.approx([0.2] * 5 + [0.1] * 10)
    assert table["backward"].tolist() == pytest.approx([0.6] * 5 + [0.3] * 10)


def test_the_warm_up_of_each_attempt_is_left_out():
    slow = [steps(WARM_UP, attempt=attempt, first=first, data_wait=9.0) for attempt, first in ((1, 1), (2, 21))]
    fast = [steps(15, attempt=attempt, first=first, forward=0.1) for attempt, first in ((1, 6), (2, 26))]
    summary = summarise(joined(*slow, *fast), NO_SYSTEM, CONDITIONS)
    assert summary.steps == 30
    assert summary.shares["data_wait"] == 0
    assert summary.samples_per_second == pytest.approx(80)


def test_evaluation_counts_neither_as_pace_nor_as_share():
    summary = summarise(steps(forward=0.1, evaluation=5.0), NO_SYSTEM, CONDITIONS)
    assert summary.samples_per_second == pytest.approx(80)
    assert summary.shares["forward"] == 1
    assert "evaluation" not in summary.shares


def test_the_pace_of_each_epoch_is_its_own():
    frame = joined(steps(10, forward=0.1), steps(10, first=11, forward=0.2))
    summary = summarise(frame, NO_SYSTEM, CONDITIONS)
    assert summary.samples_per_second_by_epoch == {0: pytest.approx(80), 1: pytest.approx(40)}


def test_a_rank_that_all_others_wait_for_is_named():
    slow = steps(rank=1, data_wait=0.01, forward=0.8, backward=0.2, all_reduce=0.0)
    fast = [steps(rank=rank, data_wait=0.01, forward=0.3, backward=0.7, all_reduce=0.5) for rank in (0, 2)]
    summary = summarise(joined(slow, *fast), NO_SYSTEM, CONDITIONS)
    assert summary.bottleneck == "straggler"
    assert "rank 1" in summary.verdict


def test_all_reduce_that_all_ranks_share_is_communication():
    ranks = [steps(rank=rank, forward=0.4, backward=0.6, all_reduce=0.3) for rank in (0, 1)]
    assert summarise(joined(*ranks), NO_SYSTEM, CONDITIONS).bottleneck == "communication"


def test_where_there_is_a_device_its_clock_decides():
    # The host hands out work in 10 ms and waits in the callbacks; the device computes all the time.
    host = {"forward": 0.005, "backward": 0.005, "callbacks": 0.09}
    device = {"device_data_wait": 0.002, "device_forward": 0.03, "device_backward": 0.06, "device_callbacks": 0.0}
    unsampled, sampled = steps(40, **host), steps(2, first=41, **host, **device)
    summary = summarise(joined(unsampled, sampled), NO_SYSTEM, CONDITIONS)
    assert (summary.clock, summary.bottleneck) == ("device", "compute")
    assert summary.shares["data_wait"] == pytest.approx(0.002 / 0.092)
    assert summary.samples_per_second == pytest.approx(80)


def test_mfu_is_the_flops_of_a_step_over_what_the_gpu_could_in_that_time():
    conditions = Conditions(batch_size=8, workers=2, gpu="NVIDIA H200", peak_flops=1000e12, step_flops=20e12)
    assert summarise(steps(forward=0.1), NO_SYSTEM, conditions).mfu == pytest.approx(0.2)
    assert summarise(steps(forward=0.1), NO_SYSTEM, CONDITIONS).mfu is None


def test_the_systems_figures_are_means_and_peaks():
    row = dict.fromkeys(SYSTEM_COLUMNS, 1.0)
    gpus = {"gpu0_percent": 80.0, "gpu1_percent": 40.0, "gpu0_memory_bytes": 1e9, "gpu1_memory_bytes": 2e9}
    system = pd.DataFrame([row | gpus | {"cpu_percent": value, "ram_bytes": value} for value in (20.0, 60.0)])
    summary = summarise(steps(forward=0.1), system, CONDITIONS)
    assert (summary.cpu_percent, summary.gpu_percent) == (40, 60)
    assert (summary.peak_ram_bytes, summary.peak_gpu_memory_bytes) == (60, 2e9)


def test_a_run_without_any_step_has_a_summary_all_the_same():
    empty = pd.DataFrame(columns=["rank", *STEP_COLUMNS, "attempt"])
    summary = summarise(empty, NO_SYSTEM, CONDITIONS)
    assert summary.bottleneck == "unknown"
    assert summary.samples_per_second is None
    assert phase_table(empty).empty
