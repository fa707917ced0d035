"""Why a node failed, where SageMaker looks for it."""

import subprocess
import sys
from pathlib import Path

from trainer.contract.nodes import NodeStart, read_end, start_path
from trainer.contract.results import Failure
from trainer.node.failure import leave_failure

REPOSITORY = Path(__file__).parents[3]


def test_the_word_of_the_rank_that_failed_is_left_cut_to_what_is_shown(tmp_path: Path) -> None:
    word = Failure(kind="data", message="shard 7 is damaged " + "x" * 2000, rank=3)
    (tmp_path / "failure.json").write_text(word.model_dump_json())
    leave_failure(tmp_path, "node 0 of 2 ended", output=tmp_path)
    left = (tmp_path / "failure").read_text()
    assert left.startswith("rank 3: shard 7 is damaged")
    assert len(left) == 1024


def test_without_a_word_the_node_says_what_it_saw(tmp_path: Path) -> None:
    leave_failure(tmp_path, "node 1 of 2 ended: exit, 1", output=tmp_path)
    assert (tmp_path / "failure").read_text() == "node 1 of 2 ended: exit, 1"


def test_where_sagemaker_made_no_place_for_it_nothing_is_written(tmp_path: Path) -> None:
    leave_failure(tmp_path, "node 0 of 1 ended", output=tmp_path / "absent")
    assert not list(tmp_path.iterdir())


def test_a_node_begins_with_what_lies_in_the_attempts_directory(tmp_path: Path) -> None:
    attempt = tmp_path / "attempts" / "a"
    attempt.mkdir(parents=True)
    script = "import os, pathlib; pathlib.Path(os.environ['WHERE']).write_text(os.environ['WHAT'])"
    start = NodeStart(
        arguments=(str(attempt), "--nodes", "1", "--", "-c", script),
        environment={"WHERE": str(tmp_path / "seen"), "WHAT": "long" * 1000},
    )
    start_path(attempt).write_text(start.model_dump_json())
    command = [sys.executable, "-m", "trainer.node", "--from", str(start_path(attempt))]
    assert subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 0
    assert (tmp_path / "seen").read_text() == "long" * 1000
    assert read_end(attempt, 0) is not None
