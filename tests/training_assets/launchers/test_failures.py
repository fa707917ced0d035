"""What a person is told when a training fails: real trainings of two ranks, made to fail for real."""

import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import psutil
import pytest

from trainer.contract.attempts import read_beat
from trainer.contract.train_config import Launch, read_config
from trainer.data.staging import data_directory
from training_assets.launchers import Handle, LaunchSpec, LocalLauncher, Status
from training_assets.launchers.outcomes import OUTCOMES
from training_assets.launchers.session import new_attempt, run_to_end

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
TWO = Launch(accelerator="cpu", devices=2)


class Training:
    """A training of the tiny recipe on two ranks, as the local launcher starts it."""

    def __init__(self, recipe: Path, data: Path, place: Path, *overrides: str) -> None:
        self.place, self.launcher, self.overrides = place, LocalLauncher(), overrides
        sets = [part for override in overrides for part in ("--set", override)]
        self.arguments = ("train", str(recipe), "--data", str(data), "--run-dir", str(place), *sets)

    def spec(self, launch: Launch = TWO, port: int | None = None, **other: object) -> LaunchSpec:
        return LaunchSpec(self.arguments, self.place, new_attempt(), launch=launch, port=port, **other)  # type: ignore[arg-type]

    def start(self, spec: LaunchSpec | None = None) -> Handle:
        return self.launcher.launch(spec or self.spec())

    def end(self, handle: Handle) -> Status:
        until(lambda: self.launcher.poll(handle).state != "running")
        status = self.launcher.poll(handle)
        self.launcher.stop(handle)
        return status

    def until_step(self, handle: Handle, step: int) -> None:
        def reached() -> bool:
            assert self.launcher.poll(handle).state == "running", handle.spec.log.read_text()[-3000:]
            beats = [read_beat(handle.spec.attempt_dir, rank) for rank in (0, 1)]
            return all(beat is not None and beat.finished >= step for beat in beats)

        until(reached)

    def rank(self, handle: Handle, rank: int) -> psutil.Process:
        beat = read_beat(handle.spec.attempt_dir, rank)
        assert beat is not None
        return psutil.Process(beat.pid)


def until(condition: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def training(recipe: Path, delivery: Path, tmp_path: Path) -> Callable[..., Training]:
    def make(*overrides: str, data: Path = delivery) -> Training:
        return Training(recipe, data, tmp_path / "run", *overrides)

    return make


def test_a_killed_rank_is_named_with_its_last_step_and_its_own_log(training: Callable[..., Training]) -> None:
    run = training("training.epochs=1000")
    handle = run.start()
    run.until_step(handle, 3)
    run.rank(handle, 1).kill()
    status = run.end(handle)
    beat = read_beat(handle.spec.attempt_dir, 1)
    assert beat is not None
    assert beat.finished >= 3
    assert (status.state, status.exit_code, status.kind) == ("failed", -9, "rank_lost")
    assert status.reason == (
        "train: rank 1 was killed by signal 9 (SIGKILL: often the kernel's out-of-memory killer) "
        f"after step {beat.finished}"
    )
    assert status.log is not None
    assert status.log.parent.name == "1"
    assert OUTCOMES[status.kind].budget == "crash"


def test_torchrun_killed_tells_how_far_its_ranks_were(training: Callable[..., Training]) -> None:
    run = training("training.epochs=1000")
    handle = run.start()
    run.until_step(handle, 2)
    psutil.Process(int(handle.id)).children()[0].kill()
    status = run.end(handle)
    assert status.kind == "rank_lost"
    assert "train's torchrun was killed by signal 9" in status.reason
    assert "rank 0 (after step" in status.reason
    assert "rank 1 (after step" in status.reason


def test_a_given_port_that_is_taken_is_named_and_not_tried_again(training: Callable[..., Training]) -> None:
    run = training("training.epochs=1")
    with listener() as taken:
        status = run.end(run.start(run.spec(port=taken)))
    assert (status.state, status.kind) == ("failed", "port_taken")
    assert f"master port {taken} is taken" in status.reason
    assert f"sport = :{taken}" in status.reason
    assert OUTCOMES[status.kind].budget == "none"


def test_memory_that_runs_out_names_what_to_lower_and_the_values_in_use(training: Callable[..., Training]) -> None:
    run = training("data.batch_size=16", "data.image_size=[2048,2048]", "data.workers=0")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, limits[1]))
    try:
        handle = run.start()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    status = run.end(handle)
    assert status.kind == "out_of_memory", status.reason
    for said in ("the machine's memory ran out", "data.batch_size (now 16)", "optim.accumulate (now 1)",
                 "training.precision: bf16 (now fp32)", "data.image_size (now [2048, 2048])"):  # fmt: skip
        assert said in status.reason
    assert OUTCOMES[status.kind].budget == "none"


def test_a_batch_that_the_ranks_and_parts_do_not_divide_names_those_that_work(
    training: Callable[..., Training],
) -> None:
    status = (run := training("data.batch_size=14", "optim.accumulate=4")).end(run.start())
    assert (status.exit_code, status.kind) == (2, "bad_input")
    assert "data.batch_size 14 on 2 ranks with optim.accumulate 4, expected a multiple of 8" in status.reason
    assert "8 or 16" in status.reason


@pytest.mark.parametrize("damage", ["cut off", "missing"])
def test_a_damaged_shard_is_named_with_the_sample(
    training: Callable[..., Training], delivery: Path, tmp_path: Path, damage: str
) -> None:
    data = data_directory(delivery, tmp_path, print)
    shard = max(data.rglob("*.tar"), key=lambda path: path.stat().st_size)
    if damage == "missing":
        shard.unlink()
    else:
        os.truncate(shard, shard.stat().st_size // 2)
    run = training("training.epochs=1", data=data)
    status = run.end(run.start())
    assert status.kind == "data", status.reason
    assert f"{shard.name}: sample 'train" in status.reason
    assert damage in status.reason
    assert "staged_shards" in status.reason
    assert OUTCOMES[status.kind].budget == "none"


def test_a_killed_loader_worker_is_told_from_a_killed_rank(training: Callable[..., Training]) -> None:
    run = training("training.epochs=1000")
    handle = run.start()
    run.until_step(handle, 2)
    worker = next(one for one in run.rank(handle, 1).children() if "resource_tracker" not in " ".join(one.cmdline()))
    worker.kill()
    status = run.end(handle)
    assert status.kind == "crash"
    assert "rank 1 after step" in status.reason
    assert "a loader worker ended: DataLoader worker (pid" in status.reason
    assert "lower data.workers (now 1 a rank)" in status.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small /dev/shm")
def test_shared_memory_that_runs_out_says_to_enlarge_it(training: Callable[..., Training]) -> None:
    run = training("data.image_size=[512,512]")
    run.arguments = ("small_shm", *run.arguments)
    spec = run.spec(module="crashing", environment={"PYTHONPATH": f"{HERE}:{HERE.parents[2]}"})
    status = run.end(run.start(spec))
    assert status.kind == "shared_memory", status.reason + spec.log.read_text()[-3000:]
    assert "--shm-size" in status.reason
    assert "lower data.workers (now 1 a rank)" in status.reason


def test_a_rank_that_does_not_arrive_is_named(tmp_path: Path) -> None:
    launcher, environment = LocalLauncher(grace=2), {"PYTHONPATH": f"{HERE}:{HERE.parents[2]}"}
    arguments = ("late", str(tmp_path))
    spec = LaunchSpec(arguments, tmp_path, new_attempt(), module="crashing", launch=TWO, environment=environment)
    handle = launcher.launch(spec)
    until(lambda: launcher.poll(handle).state != "running")
    status = launcher.poll(handle)
    assert status.kind == "timeout", status.reason
    assert "Did not arrive: rank 1 (after step 4); the other ranks wait in step 5" in status.reason


def test_a_training_that_hangs_beyond_its_deadline_is_stopped_and_not_tried_again(
    training: Callable[..., Training],
) -> None:
    run = training("training.epochs=100000")
    spec = run.spec(launch=TWO.model_copy(update={"max_run_seconds": 8.0}), deadline_grace=2.0)
    began = time.monotonic()
    with pytest.raises(dg.Failure, match=r"ran for more than 10 s, launch\.max_run_seconds 8") as failure:
        run_to_end(dg.build_asset_context(), run.launcher, spec)
    assert time.monotonic() - began < 30
    assert not failure.value.allow_retries


def test_a_run_directory_in_use_says_who_is_in_it_and_how_to_stop_it(training: Callable[..., Training]) -> None:
    run = training("training.epochs=1000")
    handle = run.start()
    run.until_step(handle, 1)
    status = run.end(run.start())
    assert status.kind == "bad_input"
    assert f"process {handle.id} on {socket.gethostname()}, attempt {handle.spec.attempt}" in status.reason
    assert f"kill -TERM {handle.id}" in status.reason
    os.kill(int(handle.id), signal.SIGTERM)
    assert run.end(handle).state == "interrupted"


def test_more_than_this_machine_has_is_refused_before_anything_starts(
    training: Callable[..., Training], recipe: Path
) -> None:
    run = training()
    spec = run.spec(launch=Launch(accelerator="cuda"))
    with pytest.raises(dg.Failure, match=r"launch\.accelerator': found cuda, expected cpu or auto") as failure:
        run_to_end(dg.build_asset_context(), run.launcher, spec)
    assert not failure.value.allow_retries
    assert not spec.log.exists()
    assert read_config(recipe).launch.accelerator == "cpu"


class listener:
    """Somebody who listens on a port of this machine."""

    def __enter__(self) -> int:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen()
        port: int = self.socket.getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self.socket.close()
