"""What an attempt leaves behind of its ranks, also of those that were killed."""

import subprocess
import sys
from pathlib import Path

from trainer.contract.attempts import Heartbeat, attempt_dir, failure_path, missing_ranks, read_beat

KILLED = """
import os, signal, sys
from pathlib import Path
from trainer.contract.attempts import Heartbeat
heart = Heartbeat(Path(sys.argv[1]), 3)
for step in range(37):
    heart.beat(step + 1, step)
    heart.beat(step + 1, step + 1)
heart.beat(38, 37)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_last_step_is_known_of_a_rank_that_was_killed(tmp_path: Path) -> None:
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert process.returncode == -9
    beat = read_beat(tmp_path, 3)
    assert beat is not None
    assert (beat.rank, beat.begun, beat.finished) == (3, 38, 37)
    assert str(beat) == "rank 3 (after step 37)"


def test_a_rank_that_never_trained_has_no_beat(tmp_path: Path) -> None:
    assert read_beat(tmp_path, 0) is None
    Heartbeat(tmp_path, 0)  # made, but not yet beaten
    assert read_beat(tmp_path, 0) is None


def test_ranks_that_are_behind_are_those_that_did_not_arrive(tmp_path: Path) -> None:
    for rank, reached in enumerate([(38, 37), (37, 37), (38, 37)]):
        Heartbeat(tmp_path, rank).beat(*reached)
    expected = "Did not arrive: rank 1 (after step 37); the other ranks wait in step 38."
    assert missing_ranks(tmp_path, 3) == expected
    assert "rank 1 (after step 37), rank 3 (not yet training)" in missing_ranks(tmp_path, 4)


def test_nobody_is_named_where_all_are_equally_far(tmp_path: Path) -> None:
    assert missing_ranks(tmp_path, 2) == ""
    for rank in (0, 1):
        Heartbeat(tmp_path, rank).beat(5, 4)
    assert missing_ranks(tmp_path, 2) == ""


def test_launched_attempts_keep_their_own_word_and_a_training_by_hand_leaves_it_in_the_run_directory() -> None:
    run, launched = Path("run"), {"TRAINING_ASSETS_ATTEMPT": "a1"}
    assert attempt_dir(run, launched) == Path("run/attempts/a1")
    assert failure_path(run, launched) == Path("run/attempts/a1/failure.json")
    assert failure_path(run, {}) == Path("run/failure.json")
