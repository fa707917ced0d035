"""Errors become words that a person can act on; the errors are torch's own where they can be had."""

import json
import os
import shutil
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from trainer.contract.attempts import Heartbeat, attempt_dir
from trainer.contract.results import Failure
from trainer.contract.train_config import read_config
from trainer.engine.failure import Subject, explained, failure_of


@pytest.fixture
def subject(recipe: Path, tmp_path: Path) -> Subject:
    return Subject(tmp_path, 0, read_config(recipe, environment={}))


def raised(call: object) -> BaseException:
    try:
        call()  # type: ignore[operator]
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def word(run_dir: Path) -> Failure:
    return Failure.model_validate_json((run_dir / "failure.json").read_bytes())


def fail(run_dir: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), explained(run_dir):
        raise error


def test_torchs_cpu_allocator_failing_is_out_of_memory(subject: Subject) -> None:
    failure = failure_of(raised(lambda: torch.empty(1 << 50)), subject)
    assert failure.kind == "out_of_memory"
    assert "the machine's memory ran out" in failure.message
    assert "data.batch_size (now 8)" in failure.advice


def test_cuda_out_of_memory_is_told_from_the_machines(subject: Subject) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of …")
    failure = failure_of(error, subject)
    assert failure.kind == "out_of_memory"
    assert "the GPU's memory ran out: CUDA out of memory. Tried to allocate 2.00 GiB" in failure.message
    assert "training.precision: bf16 (now fp32)" in failure.advice
    assert "data.workers" not in failure.advice


@pytest.mark.slow
def test_a_store_that_ranks_do_not_reach_names_the_ranks_that_are_behind(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    Heartbeat(attempt_dir(subject.run_dir, {}), 0).beat(1, 0)
    store = dist.TCPStore("127.0.0.1", 0, 1, True, timedelta(seconds=1))
    failure = failure_of(raised(lambda: store.get("never set")), subject)
    assert failure.kind == "timeout"
    assert "rank 1 (not yet training)" in failure.advice


def test_an_error_of_our_own_that_speaks_of_a_timeout_is_no_timeout_of_ranks(subject: Subject) -> None:
    assert failure_of(RuntimeError("the camera's timeout is wrong"), subject).kind == "crash"


def test_a_cause_replaces_the_word_of_a_rank_that_only_lost_its_peer(tmp_path: Path) -> None:
    lost = RuntimeError("[gloo/transport/tcp/pair.cc:544] Connection closed by peer [127.0.0.1]:3456")
    for error, kind in ((lost, "rank_lost"), (KeyError("a bug"), "crash"), (lost, "crash"), (ValueError(), "crash")):
        os.environ["RANK"] = "1"  # rank 0 would begin anew
        try:
            fail(tmp_path, error)
        finally:
            del os.environ["RANK"]
        assert word(tmp_path).kind == kind
    assert "a bug" in word(tmp_path).message
    assert [path.name for path in tmp_path.glob("*.json")] == ["failure.json"]


def test_the_word_names_the_rank_and_its_last_step(tmp_path: Path) -> None:
    def train() -> None:
        with explained(tmp_path):
            Heartbeat(attempt_dir(tmp_path, {}), 0).beat(13, 12)
            raise ValueError("broken")

    assert isinstance(raised(train), ValueError)
    assert (word(tmp_path).rank, word(tmp_path).step) == (0, 12)


@pytest.fixture
def crowded(delivery: Path, tmp_path: Path) -> Path:
    """``delivery`` with one agent in each frame, but three in one of train."""
    root = shutil.copytree(delivery, tmp_path / "crowded")
    points = [(0.4 * step, 0.0) for step in range(20)]
    for manifest in root.glob("*.manifest"):
        rows = [json.loads(line) for line in manifest.read_text().splitlines()]
        for row in rows:
            agents = 3 if row["sample_id"] == "train005" else 1
            row["tracks"] = [{"track_id": str(n), "hz": 2.5, "observed": 8, "points": points} for n in range(agents)]
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_the_recipe_has_no_room_for_is_bad_input(
    recipe: Path, crowded: Path, tmp_path: Path, workers: int
) -> None:
    tracks = "tasks.trajectory={options: {max_agents: 2, hidden: 8}}"
    command = [sys.executable, "-m", "trainer", "train", str(recipe), "--data", str(crowded)]
    for override in ("launch.devices=1", f"data.workers={workers}", tracks):
        command += ["--set", override]
    done = subprocess.run([*command, "--run-dir", str(tmp_path / "run")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    failure = word(tmp_path / "run")
    assert failure.kind == "bad_input"
    assert failure.message.startswith("more agents than the recipe has room for: 1 problem")
    assert "sample 'train005': found 3 agents, expected at most 2" in failure.message
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_taken_master_port_is_named_by_the_rank_that_wanted_it(recipe: Path, delivery: Path, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        ranks = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, "-m", "trainer", "train", str(recipe), "--data", str(delivery)]
        done = subprocess.run([*command, "--run-dir", str(tmp_path / "run")], env=os.environ | ranks, timeout=60)
    assert done.returncode == 1
    failure = word(tmp_path / "run")
    assert failure.kind == "port_taken"
    assert f"master port {port} is taken" in failure.message
    assert f"sport = :{port}" in failure.advice
