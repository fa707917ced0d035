"""The local launcher: every end is told apart, and nothing is left running."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.contract.attempts import ATTEMPT_VARIABLE
from trainer.contract.train_config import Launch
from training_assets.launchers import Handle, LaunchSpec, LocalLauncher, Status
from training_assets.launchers.local import environment_of
from training_assets.launchers.processes import marked
from training_assets.launchers.session import new_attempt

HERE = Path(__file__).parent


def spec_of(how: str, place: Path, processes: int = 0) -> LaunchSpec:
    return LaunchSpec(
        (how, str(place)),
        run_dir=place,
        attempt=new_attempt(),
        module="ranks",
        launch=Launch(accelerator="cpu", devices=processes) if processes else None,
        environment={"PYTHONPATH": str(HERE)},
    )


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def ended(launcher: LocalLauncher, handle: Handle) -> Status:
    until(lambda: launcher.poll(handle).state != "running")
    return launcher.poll(handle)


def left(spec: LaunchSpec) -> list[int]:
    return [process.pid for process in marked((ATTEMPT_VARIABLE, spec.attempt))]


def test_a_command_that_ends_well_is_a_success_with_its_log(tmp_path: Path) -> None:
    launcher, spec = LocalLauncher(), spec_of("fine", tmp_path)
    handle = launcher.launch(spec)
    assert ended(launcher, handle) == Status("succeeded", 0)
    text, offset = launcher.logs(handle)
    assert text == "rank 0 is fine\n"
    assert launcher.logs(handle, offset) == ("", offset)


def test_a_refusal_keeps_its_exit_code(tmp_path: Path) -> None:
    launcher = LocalLauncher()
    status = ended(launcher, launcher.launch(spec_of("refuse", tmp_path)))
    assert (status.state, status.exit_code) == ("failed", 2)


def test_stopping_a_polite_command_lets_it_save_and_counts_as_interrupted(tmp_path: Path) -> None:
    launcher, spec = LocalLauncher(), spec_of("polite", tmp_path)
    handle = launcher.launch(spec)
    until((tmp_path / "rank-0").exists)
    launcher.stop(handle)
    assert (tmp_path / "saved-0").exists()
    assert launcher.poll(handle).state == "interrupted"
    launcher.stop(handle)  # twice is fine


def test_what_a_finished_command_left_behind_is_ended_though_it_lost_its_parent(tmp_path: Path) -> None:
    launcher, spec = LocalLauncher(grace=2), spec_of("orphan", tmp_path)
    handle = launcher.launch(spec)
    assert ended(launcher, handle).state == "succeeded"
    assert left(spec)
    launcher.stop(handle)
    assert not left(spec)


@pytest.mark.slow
def test_an_attempt_that_nobody_watches_is_asked_to_save_and_ended_by_the_runs_next_one(
    tmp_path: Path,
) -> None:
    forgotten = spec_of("polite", tmp_path)
    LocalLauncher().launch(forgotten)  # by a step whose process is gone by now
    until((tmp_path / "rank-0").exists)
    elsewhere = spec_of("polite", tmp_path / "other-run")
    elsewhere.run_dir.mkdir()
    launcher = LocalLauncher()
    other = launcher.launch(elsewhere)
    again = launcher.launch(spec_of("fine", tmp_path))
    assert (tmp_path / "saved-0").exists()
    assert not left(forgotten)
    assert ended(launcher, again).state == "succeeded"
    assert left(elsewhere), "another run's training is left alone"
    launcher.stop(other)


def test_secrets_of_this_process_are_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "DAGSTER_CLOUD_API_TOKEN", "TORCH_HUB_TOKEN", "PGPASSWORD"):
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    environment = environment_of(spec_of("fine", tmp_path))
    assert "hush" not in environment.values()
    assert environment["NCCL_DEBUG"] == "INFO"
    assert environment["OMP_NUM_THREADS"] == "1"


@pytest.mark.slow
def test_the_rank_that_crashed_first_is_named_with_its_exit_code(tmp_path: Path) -> None:
    launcher, spec = LocalLauncher(), spec_of("crash", tmp_path, processes=2)
    handle = launcher.launch(spec)
    status = ended(launcher, handle)
    assert (status.state, status.exit_code, status.kind) == ("failed", 1, "crash")
    assert status.reason == "crash, rank 1 first, exited with code 1"
    assert status.log is not None
    own = status.log.read_text()
    assert "rank 1 fell over its own feet" in own
    assert "rank 0" not in own
    assert "[rank 1] RuntimeError: rank 1 fell over its own feet" in launcher.logs(handle)[0]
    assert not left(spec)


@pytest.mark.slow
def test_a_refusal_under_torchrun_keeps_the_ranks_exit_code(tmp_path: Path) -> None:
    launcher = LocalLauncher()
    status = ended(launcher, launcher.launch(spec_of("refuse", tmp_path, processes=2)))
    assert (status.state, status.exit_code) == ("failed", 2)


@pytest.mark.slow
def test_stopping_ends_every_rank_and_its_children_within_15_s_even_when_they_ignore_sigterm(tmp_path: Path) -> None:
    launcher, spec = LocalLauncher(), spec_of("stubborn", tmp_path, processes=2)
    handle = launcher.launch(spec)
    until(lambda: (tmp_path / "rank-0").exists() and (tmp_path / "rank-1").exists())
    assert len(left(spec)) >= 5  # torchrun, two ranks and a child of each
    began = time.monotonic()
    launcher.stop(handle)
    assert time.monotonic() - began < 15
    assert not left(spec)


@pytest.mark.slow
def test_stopping_lets_every_rank_save(tmp_path: Path) -> None:
    launcher, spec = LocalLauncher(), spec_of("polite", tmp_path, processes=2)
    handle = launcher.launch(spec)
    until(lambda: (tmp_path / "rank-0").exists() and (tmp_path / "rank-1").exists())
    launcher.stop(handle)
    assert {path.name for path in tmp_path.glob("saved-*")} == {"saved-0", "saved-1"}
    assert not left(spec)
