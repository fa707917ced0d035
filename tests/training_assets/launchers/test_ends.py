"""What an attempt's end means, from what torchrun and torch wrote when it was seen to happen."""

from pathlib import Path

import pytest

from trainer.contract.attempts import Heartbeat
from trainer.contract.results import Failure
from trainer.contract.train_config import Launch
from training_assets.launchers import LaunchSpec
from training_assets.launchers.ends import End, status_of

# torch 2.13: rank 1 was killed, rank 0 fell within the same tenth of a second, and is called the root cause.
TIE = """\
Failures:
[1]:
  time      : 2026-11-21_12:58:18
  host      : localhost
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 10741)  (SIGKILL)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 10741
------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-21_12:58:18
  host      : localhost
  rank      : 0 (local_rank: 0)
  exitcode  : 1 (pid: 10740)
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
"""
# ProcessGroupNCCL.cpp; the process then aborts itself.
WATCHDOG = (
    "[rank1]:[E] ProcessGroupNCCL.cpp:685] [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=21, "
    "OpType=ALLREDUCE, NumelIn=1000, NumelOut=1000, Timeout(ms)=600000) ran for 600029 milliseconds before timing out."
)


@pytest.fixture
def spec(tmp_path: Path) -> LaunchSpec:
    return LaunchSpec(("train",), tmp_path, "a1", launch=Launch(devices=2))


def leave_word(spec: LaunchSpec, **fields: object) -> None:
    spec.attempt_dir.mkdir(parents=True, exist_ok=True)
    failure = Failure.model_validate({"message": "…", "rank": 0, **fields})
    (spec.attempt_dir / "failure.json").write_text(failure.model_dump_json())


def test_the_killed_rank_is_named_though_torchrun_names_another(spec: LaunchSpec) -> None:
    leave_word(spec, kind="crash", message="RuntimeError: Connection closed")
    Heartbeat(spec.attempt_dir, 1).beat(38, 37)
    status = status_of(End(spec, 1, TIE, processes=2))
    assert (status.kind, status.exit_code) == ("rank_lost", -9)
    assert "rank 1 was killed by signal 9" in status.reason
    assert status.reason.endswith("after step 37")


def test_a_rank_that_said_why_it_failed_is_believed_before_a_killed_one(spec: LaunchSpec) -> None:
    leave_word(spec, kind="out_of_memory", message="the GPU's memory ran out", advice="Lower it.", step=4)
    status = status_of(End(spec, 1, TIE, processes=2))
    assert status.kind == "out_of_memory"
    assert status.reason == "train, rank 0 after step 4: the GPU's memory ran out\nLower it."


def test_an_nccl_timeout_names_who_did_not_arrive_and_the_flight_recorder(spec: LaunchSpec) -> None:
    Heartbeat(spec.attempt_dir, 0).beat(37, 37)
    Heartbeat(spec.attempt_dir, 1).beat(38, 37)
    own = spec.attempt_dir / "nodes/0/ranks/none_x/attempt_0/1/stdout.log"
    own.parent.mkdir(parents=True)
    own.write_text(WATCHDOG)
    status = status_of(End(spec, 1, TIE.replace("-9", "-6"), processes=2))
    assert status.kind == "timeout"
    assert "Did not arrive: rank 0 (after step 37); the other ranks wait in step 38" in status.reason
    assert str(spec.attempt_dir / "flight-recorder") in status.reason


def test_a_bus_error_says_to_enlarge_shared_memory(spec: LaunchSpec) -> None:
    status = status_of(End(spec, 1, TIE.replace("-9", "-7"), processes=2))
    assert status.kind == "shared_memory"
    assert "--shm-size" in status.reason


def test_the_sigterm_by_which_torchrun_ends_the_others_is_no_cause(spec: LaunchSpec) -> None:
    report = TIE.replace("-9", "-15")
    assert status_of(End(spec, 1, report, processes=2)).reason == "train, rank 0 first, exited with code 1"


def test_without_a_word_or_report_the_exit_code_is_told(spec: LaunchSpec) -> None:
    assert status_of(End(spec, 3, "")).reason == "train exited with code 3"
    assert status_of(End(spec, 75, "")).state == "interrupted"
    assert status_of(End(spec, 2, "")).kind == "bad_input"
