"""A step and the attempt that it launched: gone on with after the step's death, tried again in budgets, paid for."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from trainer.contract.attempts import ATTEMPT_VARIABLE
from trainer.contract.nodes import read_end
from trainer.contract.results import TrainResult
from trainer.contract.train_config import Launch
from training_assets.launchers import Handle, LaunchSpec, LocalLauncher, Status, session
from training_assets.launchers.base import Estimate, LaunchFailed
from training_assets.launchers.outcomes import OUTCOMES, RETRIES
from training_assets.launchers.processes import marked
from training_assets.launchers.session import Observe, Spent, new_attempt, run_to_end, spent_on, unobserved
from training_assets.observability import Labels, Observer
from training_assets.profiles.watching import Watch

HERE = Path(__file__).parents[1]
REPOSITORY = HERE.parents[1]
STEP = """
import dagster as dg, sys
from pathlib import Path
from training_assets.launchers import LaunchSpec, LocalLauncher
from training_assets.launchers.session import run_to_end
how, place, attempt, path = sys.argv[1:]
spec = LaunchSpec((how, place), Path(place), attempt, module="ranks", environment={"PYTHONPATH": path})
run_to_end(dg.build_asset_context(), LocalLauncher(grace=2), spec)
"""


class Priced(LocalLauncher):
    """Two dollars an hour, four GPUs."""

    poll_seconds = 0.02

    def estimate(self, spec: LaunchSpec) -> Estimate:
        return Estimate("p9.large", 1, 4, 2.0)


def spec_of(how: str, place: Path, **other: object) -> LaunchSpec:
    environment = {"PYTHONPATH": f"{HERE}:{REPOSITORY}"}
    given = {"module": "ranks", "environment": environment, **other}
    return LaunchSpec((how, str(place)), place, new_attempt(), **given)  # type: ignore[arg-type]


def run(spec: LaunchSpec, launcher: LocalLauncher | None = None, observe: Observe = unobserved) -> Spent:
    return run_to_end(dg.build_asset_context(), launcher or Priced(grace=2), spec, observe)


def outcome(spec: LaunchSpec) -> dict:
    found: dict = json.loads((spec.attempt_dir / "outcome.json").read_bytes())
    return found


def until(condition: Callable[[], bool], seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def forgotten(tmp_path: Path) -> LaunchSpec:
    """An attempt whose step's process was killed while it ran."""
    spec = spec_of("patient", tmp_path)
    arguments = ["patient", str(tmp_path), spec.attempt, spec.environment["PYTHONPATH"]]
    step = subprocess.Popen([sys.executable, "-c", STEP, *arguments], cwd=REPOSITORY)
    until((tmp_path / "rank-0").exists)
    step.kill()
    step.wait()
    return spec


@pytest.mark.slow
def test_a_step_goes_on_with_the_attempt_of_a_step_that_was_killed(forgotten: LaunchSpec) -> None:
    assert marked((ATTEMPT_VARIABLE, forgotten.attempt))
    again = replace(forgotten, attempt=new_attempt())
    launcher = Priced()
    launcher.poll_seconds = 0.02
    finish = launcher.poll
    launcher.poll = lambda handle: ((forgotten.run_dir / "go").touch(), finish(handle))[1]  # type: ignore[method-assign]
    run(again, launcher)
    assert outcome(forgotten)["state"] == "succeeded"
    assert not again.attempt_dir.exists(), "nothing was started a second time"


@pytest.mark.slow
@pytest.mark.parametrize(("code", "kind"), [("", None), ("2", "bad_input")])
def test_an_end_that_nobody_saw_is_acted_on(forgotten: LaunchSpec, code: str, kind: str | None) -> None:
    (forgotten.run_dir / "go").write_text(code)
    until(lambda: not marked((ATTEMPT_VARIABLE, forgotten.attempt)))
    again = replace(forgotten, attempt=new_attempt())
    if kind is None:
        run(again)
    else:
        with pytest.raises(dg.Failure, match="exited with code 2"):
            run(again)
    assert outcome(forgotten)["kind"] == kind
    assert not again.attempt_dir.exists()


def test_an_attempt_of_another_backend_is_not_guessed_about(tmp_path: Path) -> None:
    class Elsewhere(Priced):
        name = "elsewhere"

        def poll(self, handle: Handle) -> Status:
            raise SystemExit  # as if killed: nothing is kept of how it ended

    spec = spec_of("fine", tmp_path)
    with pytest.raises(SystemExit):
        run(spec, Elsewhere(grace=2))
    (spec.attempt_dir / "outcome.json").unlink()
    again = spec_of("fine", tmp_path)
    with pytest.raises(dg.Failure, match=f"{spec.attempt} of fine is under way on elsewhere, and local cannot"):
        run(again)
    assert not again.attempt_dir.exists()


@pytest.mark.slow
def test_an_attempt_at_something_else_in_the_same_place_is_stopped(forgotten: LaunchSpec) -> None:
    run(spec_of("fine", forgotten.run_dir))
    assert not marked((ATTEMPT_VARIABLE, forgotten.attempt))
    assert outcome(forgotten)["kind"] == "cancelled"


def test_a_step_that_is_cancelled_stops_what_it_launched(tmp_path: Path) -> None:
    class Impatient(Priced):
        def poll(self, handle: Handle) -> Status:
            until((tmp_path / "rank-0").exists)
            raise KeyboardInterrupt

    spec = spec_of("patient", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(spec, Impatient(grace=2))
    assert not marked((ATTEMPT_VARIABLE, spec.attempt))
    assert outcome(spec)["kind"] == "cancelled"


def test_a_step_that_is_cancelled_while_it_launches_leaves_nothing(tmp_path: Path) -> None:
    class Interrupted(Priced):
        def launch(self, spec: LaunchSpec) -> Handle:
            super().launch(spec)
            until((tmp_path / "rank-0").exists)
            raise KeyboardInterrupt

    spec = spec_of("patient", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(spec, Interrupted(grace=2))
    assert not marked((ATTEMPT_VARIABLE, spec.attempt))


def test_a_backend_that_does_not_answer_for_a_while_ends_nothing(tmp_path: Path) -> None:
    class Silent(Priced):
        asked = 0

        def poll(self, handle: Handle) -> Status:
            self.asked += 1
            if self.asked in (1, 2, 4):
                raise ConnectionError("nobody is there")
            return super().poll(handle)

    spec = spec_of("fine", tmp_path)
    run(spec, Silent(grace=2))
    assert outcome(spec)["state"] == "succeeded"


def test_a_backend_that_never_answers_again_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Priced):
        def poll(self, handle: Handle) -> Status:
            raise ConnectionError("nobody is there")

    monkeypatch.setattr(session, "SILENCE_SECONDS", 0.2)
    spec = spec_of("patient", tmp_path)
    with pytest.raises(ConnectionError):
        run(spec, Gone(grace=2))
    assert not marked((ATTEMPT_VARIABLE, spec.attempt)), "what could be stopped was"


@pytest.mark.slow
def test_crashes_are_tried_again_until_their_budget_is_spent(tmp_path: Path) -> None:
    for _ in range(RETRIES["crash"]):
        with pytest.raises(dg.RetryRequested):
            run(spec_of("fine", tmp_path, module="no_such_module"))
    with pytest.raises(dg.Failure, match="No module named no_such_module") as failure:
        run(spec_of("fine", tmp_path, module="no_such_module"))
    assert not failure.value.allow_retries


@pytest.mark.slow
def test_disruptions_do_not_count_against_the_budget_for_crashes(tmp_path: Path) -> None:
    class Full(Priced):
        def launch(self, spec: LaunchSpec) -> Handle:
            raise LaunchFailed(Status("failed", None, "no capacity in any zone", "capacity"))

    for _ in range(RETRIES["crash"] + 1):
        with pytest.raises(dg.RetryRequested) as retry:
            run(spec_of("fine", tmp_path), Full())
        assert retry.value.seconds_to_wait == OUTCOMES["capacity"].wait
    with pytest.raises(dg.RetryRequested):
        run(spec_of("fine", tmp_path, module="no_such_module"))
    run(spec_of("fine", tmp_path))


def test_what_cannot_be_mended_by_trying_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(dg.Failure) as failure:
        run(spec_of("refuse", tmp_path))
    assert not failure.value.allow_retries
    assert failure.value.metadata["kind"].value == "bad_input"


@pytest.mark.slow
def test_all_attempts_are_paid_for(tmp_path: Path) -> None:
    with pytest.raises(dg.RetryRequested):
        run(spec_of("fine", tmp_path, module="no_such_module"))
    spent = run(spec_of("fine", tmp_path))
    assert spent == spent_on(tmp_path)
    assert spent.usd == pytest.approx(2.0 * spent.seconds / 3600)
    assert spent.gpu_hours == pytest.approx(4 * spent.seconds / 3600)
    assert len(list(tmp_path.glob("attempts/*/outcome.json"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("watch", "kind", "raised"),
    [
        (Watch(max_cost_usd=1e-4), "cost", dg.Failure),  # at two dollars an hour: after a fifth of a second
        (Watch(no_progress_minutes=0.01), "no_progress", dg.RetryRequested),
    ],
)
def test_a_limit_that_is_passed_ends_the_attempt(
    tmp_path: Path, watch: Watch, kind: str, raised: type[Exception]
) -> None:
    def observe(spec: LaunchSpec) -> Observer:
        return Observer(spec.attempt_dir, Labels("p", "r", "1"), 8, watch, print)

    spec = spec_of("patient", tmp_path)
    with pytest.raises(raised):
        run(spec, observe=observe)
    assert not marked((ATTEMPT_VARIABLE, spec.attempt))
    assert outcome(spec)["kind"] == kind


def test_what_earlier_attempts_cost_counts_against_the_cap(tmp_path: Path) -> None:
    with pytest.raises(dg.RetryRequested):
        run(spec_of("fine", tmp_path, module="no_such_module"))
    cap = Watch(max_cost_usd=spent_on(tmp_path).usd)
    spec = spec_of("patient", tmp_path)
    with pytest.raises(dg.Failure, match=r"watch\.max_cost_usd"):
        run(spec, observe=lambda spec: Observer(spec.attempt_dir, Labels("p", "r", "1"), 8, cap, print))
    assert outcome(spec)["spent"]["seconds"] < 5, "at its first look"


@pytest.mark.slow
def test_two_nodes_train_what_one_node_trains(recipe: Path, delivery: Path, tmp_path: Path) -> None:
    states = []
    for nodes in (1, 2):
        place = tmp_path / f"nodes-{nodes}"
        launch = Launch(accelerator="cpu", devices=2 // nodes, num_nodes=nodes)
        sets = ("--set", f"launch.devices={2 // nodes}", "--set", f"launch.num_nodes={nodes}")
        arguments = ("train", str(recipe), "--data", str(delivery), "--run-dir", str(place), *sets)
        run(LaunchSpec(arguments, place, new_attempt(), launch=launch))
        states.append(TrainResult.model_validate_json((place / "result.json").read_bytes()).state_sha256)
    assert states[0] == states[1]
    second = read_end(next((tmp_path / "nodes-2").glob("attempts/*/nodes")).parent, 1)
    assert second is not None
    assert (second.exit_code, second.cause) == (0, "exit")
