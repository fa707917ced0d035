"""``sweep`` on the command line: what it says of a sweep, ending one, taking over what it learnt."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.training_assets.conftest import Graph
from trainer.contract.files import sha256_of
from training_assets.__main__ import main
from training_assets.recipes import recipe_named
from training_assets.starting_sweeps import AskedSweep, start
from training_assets.sweeps.journal import journal_of
from training_assets.sweeps.learning import FileChange, Proposal, write_proposal
from training_assets.sweeps.place import SweepPlace
from training_assets.sweeps.trials import CONTINUE, Decision, Suggestion

METRIC = "segmentation/mIoU"
SWEEP: dict[str, Any] = {
    "recipe": "tiny",
    "objective": METRIC,
    "epochs": 9,
    "budget": {"max_trials": 4},
    "parameters": {"optim.lr": {"min": 1e-4, "max": 1e-1}},
}


@pytest.fixture
def sweep(staged: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepPlace:
    """A sweep with a stopped trial and one at work."""
    assert staged.run("tiny/training_set", window="2026-01-12").success
    for name in ("store", "inbox", "recipes"):
        monkeypatch.setenv(f"TRAINING_ASSETS_{name.upper()}", str(getattr(staged.profile, name)))
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(SWEEP))
    recipe = recipe_named(staged.profile, "tiny")
    asked = AskedSweep(file, recipe, staged.profile.recipes / "tiny.yaml", "night-owl-1", "manual", "a test")
    place = start(asked, staged.places, staged.trainer)
    with journal_of(place.root) as journal:
        for number, value in enumerate((0.25, 0.5)):
            journal.asked(number, Suggestion({"optim.lr": 0.01 * (number + 1)}), 0.0)
            journal.reported(number, 3, {METRIC: value}, 1.0)
        journal.decided(0, 3, Decision("stop", "0.25 after epoch 3 misses 0.5", "asha", 3, 0.5, 2), 1.0)
        journal.decided(1, 3, CONTINUE, 1.0)
        journal.became(0, "stopped", 2.0)
    return place


def test_a_line_for_each_sweep_and_one_with_its_trials(sweep: SweepPlace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "status"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("night-owl-1  tiny 2026-01-12  under way: 1 running, 1 stopped")
    assert f"best {METRIC} 0.5 (cv1)" in line
    assert main(["sweep", "status", "night-owl-1"]) == 0
    said = capsys.readouterr().out
    assert "2 of 4 trials started" in said
    assert "0.25 after epoch 3 misses 0.5" in said
    assert "optim.lr=0.02" in said


def test_programs_read_it_as_json(sweep: SweepPlace, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "status", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["best"] == {"trial": 1, "value": 0.5}
    assert [trial["state"] for trial in found["trials"]] == ["stopped", "running"]


def test_a_sweep_is_ended_with_the_reason(sweep: SweepPlace) -> None:
    assert main(["sweep", "stop", "night-owl-1", "--reason", "good enough"]) == 0
    assert sweep.stop is not None
    assert sweep.stop.reason.endswith(": good enough")


def test_a_sweep_that_there_is_not_is_named_with_those_that_there_are(
    sweep: SweepPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "status", "night-owl-2"]) == 2
    assert "found night-owl-2, expected one that was started: night-owl-1" in capsys.readouterr().err


def test_what_it_learnt_is_taken_over_once(
    sweep: SweepPlace, staged: Graph, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "apply", "night-owl-1"]) == 2
    assert "proposes nothing" in capsys.readouterr().err
    recipe = staged.profile.recipes / "tiny.yaml"
    after = recipe.read_text().replace("lr: 0.01", "lr: 0.02")
    change = FileChange(
        path="recipes/tiny.yaml",
        before_sha256=sha256_of(recipe),
        after_sha256=hashlib.sha256(after.encode()).hexdigest(),
        content=after,
        diff="",
    )
    proposal = Proposal(sweep="night-owl-1", trial="night-owl-1-cv1", recipe="tiny", changes=(), files=(change,))
    write_proposal(proposal, sweep.report / "proposal")
    assert main(["sweep", "apply", "night-owl-1"]) == 0
    assert "lr: 0.02" in recipe.read_text()
    assert main(["sweep", "apply", "night-owl-1"]) == 0
    assert "everything is as proposed already" in capsys.readouterr().out
