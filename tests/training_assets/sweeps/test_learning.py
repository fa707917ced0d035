"""What a sweep found goes back into the recipe and the library, by a diff that a person reads."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.training_assets.sweeps import simulated
from trainer.contract.errors import ContractError
from trainer.contract.files import sha256_of
from trainer.contract.train_config import read_config, with_overrides
from training_assets.sweeps.learning import (
    Proposal,
    apply,
    parse_library,
    propose,
    read_proposal,
    write_proposal,
)
from training_assets.sweeps.report.summary import SweepSummary, TrialRow

RECIPE = Path(__file__).parents[3] / "recipes" / "scenes_multitask.yaml"
LIBRARY = "recipes/library/scenes.yaml"


@pytest.fixture(scope="module")
def summary() -> SweepSummary:
    return simulated.summary(7)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "recipes").mkdir()
    shutil.copy(RECIPE, tmp_path / "recipes")
    return tmp_path


def winner_of(summary: SweepSummary) -> TrialRow:
    return summary.trial(summary.outcome.winner)  # type: ignore[arg-type]


def proposed(summary: SweepSummary, root: Path) -> Proposal:
    return propose(summary, winner_of(summary), root / "recipes" / RECIPE.name, root, ["night"])


def test_the_changed_recipe_trains_what_the_winner_trained_to_the_last_digit(summary: SweepSummary, root: Path) -> None:
    path = root / "recipes" / RECIPE.name
    before = read_config(path, environment={})
    apply(proposed(summary, root), root)
    overrides = [f"{name}={value}" for name, value in winner_of(summary).params.items()]
    assert read_config(path, environment={}).digest == with_overrides(before, overrides).digest
    assert read_config(path, environment={}).digest != before.digest


def test_the_diff_is_small_keeps_comments_and_is_what_patch_would_do(
    summary: SweepSummary, root: Path, tmp_path: Path
) -> None:
    proposal = proposed(summary, root)
    path = write_proposal(proposal, tmp_path / "proposal")
    diffs = sorted(path.parent.glob("*.diff"))
    assert [one.name for one in diffs] == ["recipes.library.scenes.yaml.diff", f"recipes.{RECIPE.name}.diff"]
    text = diffs[1].read_text()
    fields = len(proposal.changes)
    assert 0 < sum(line.startswith("+") and not line.startswith("+++") for line in text.splitlines()) <= fields
    for diff in diffs:
        subprocess.run(["git", "apply", str(diff)], cwd=root, check=True)
    patched = {file.path: (root / file.path).read_bytes() for file in proposal.files}
    assert {file.path: file.content.encode() for file in proposal.files} == patched
    assert "# Boxes, free space" in (root / "recipes" / RECIPE.name).read_text()


def test_a_proposal_is_read_as_it_was_written_and_applied_once(
    summary: SweepSummary, root: Path, tmp_path: Path
) -> None:
    path = write_proposal(proposed(summary, root), tmp_path / "proposal")
    proposal = read_proposal(path)
    assert proposal == proposed(summary, root)
    assert len(apply(proposal, root)) == 2
    assert apply(proposal, root) == [], "all is as it shall be"


def test_an_apply_that_was_killed_between_two_files_is_simply_repeated(summary: SweepSummary, root: Path) -> None:
    proposal = proposed(summary, root)
    apply(proposal.model_copy(update={"files": proposal.files[:1]}), root)
    assert apply(proposal, root) == [root / LIBRARY]


def test_a_recipe_that_changed_since_is_refused_and_nothing_is_written(summary: SweepSummary, root: Path) -> None:
    proposal, path = proposed(summary, root), root / "recipes" / RECIPE.name
    path.write_text(path.read_text() + "# changed since\n")
    with pytest.raises(ContractError, match=r"cannot be applied: 1 problem.*\n.*scenes_multitask.yaml: found sha256"):
        apply(proposal, root)
    assert path.read_text().endswith("# changed since\n")
    assert not (root / LIBRARY).exists()


def test_a_proposal_that_was_tampered_with_or_leads_out_is_refused(
    summary: SweepSummary, root: Path, tmp_path: Path
) -> None:
    proposal = proposed(summary, root)
    first = proposal.files[0]
    for update in ({"content": first.content + "# more\n"}, {"path": "../outside.yaml"}, {"path": "/etc/hosts"}):
        with pytest.raises(ContractError, match="cannot be applied"):
            apply(proposal.model_copy(update={"files": (first.model_copy(update=update),)}), root)
    (tmp_path / "proposal.json").write_text('{"format": 1}')
    with pytest.raises(ContractError, match="is not a proposal"):
        read_proposal(tmp_path / "proposal.json")


def test_the_library_keeps_what_was_found_where_and_how_good_it_was(summary: SweepSummary, root: Path) -> None:
    apply(proposed(summary, root), root)
    text = (root / LIBRARY).read_text()
    (entry,) = parse_library(text, LIBRARY).entries
    winner = winner_of(summary)
    assert entry.name == f"quiet-otter/{winner.name}"
    assert (entry.date, entry.slices, entry.scores) == ("2026-11-30", ("night",), winner.objectives)
    assert entry.baseline == {simulated.IOU: 0.55, simulated.AP: 0.41}
    assert entry.augmentation is not None
    assert entry.augmentation.brightness == winner.params["data.augmentation.brightness"]
    assert entry.augmentation.scale == (1.0, 1.3), "what was not searched is part of it"
    assert entry.loss_weights["detection"] == winner.params["tasks.detection.weight"]
    assert entry.loss_weights["lanes"] == 0.5
    assert text.startswith("# Augmentation policies")


def test_a_second_sweep_is_added_behind_the_first(summary: SweepSummary, root: Path) -> None:
    apply(proposed(summary, root), root)
    before = (root / LIBRARY).read_text()
    sweep = summary.sweep.model_copy(update={"name": "loud-heron"})
    other = winner_of(summary).model_copy(update={"params": {"tasks.lanes.weight": 0.75}})
    again = propose(summary.model_copy(update={"sweep": sweep}), other, root / "recipes" / RECIPE.name, root)
    apply(again, root)
    after = (root / LIBRARY).read_text()
    assert after.startswith(before)
    assert [one.sweep for one in parse_library(after, LIBRARY).entries] == ["quiet-otter", "loud-heron"]


def test_a_winner_that_is_the_recipe_proposes_nothing(summary: SweepSummary, root: Path) -> None:
    same = winner_of(summary).model_copy(update={"params": {"optim.lr": 4.0e-3, "model.width": 16}})
    found = propose(summary, same, root / "recipes" / RECIPE.name, root)
    assert (found.changes, found.files) == ((), ())


def test_what_is_found_for_the_optimizer_alone_is_no_policy(summary: SweepSummary, root: Path) -> None:
    one = winner_of(summary).model_copy(update={"params": {"optim.lr": 1e-3}})
    found = propose(summary, one, root / "recipes" / RECIPE.name, root)
    assert [file.path for file in found.files] == [f"recipes/{RECIPE.name}"]


def test_a_recipe_that_changed_while_the_sweep_was_at_work_is_not_proposed_for(
    summary: SweepSummary, root: Path
) -> None:
    path, winner = root / "recipes" / RECIPE.name, winner_of(summary)
    began_with = sha256_of(path)
    assert propose(summary, winner, path, root, recipe_sha256=began_with).files
    path.write_text(path.read_text() + "# changed since\n")
    with pytest.raises(ContractError, match="changed while the sweep was at work"):
        propose(summary, winner, path, root, recipe_sha256=began_with)


def test_another_recipe_and_a_value_that_it_cannot_have_are_refused(summary: SweepSummary, root: Path) -> None:
    path = root / "recipes" / RECIPE.name
    odd = winner_of(summary).model_copy(update={"params": {"optim.lr": -1.0}})
    with pytest.raises(ContractError, match=r"optim\.lr"):
        propose(summary, odd, path, root)
    path.write_text(path.read_text().replace("name: scenes_multitask", "name: other"))
    with pytest.raises(ContractError, match="not the sweep's recipe"):
        proposed(summary, root)
