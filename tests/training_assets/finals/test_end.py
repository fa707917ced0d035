"""A sweep that is through: ordered, gated, judged again, registered once, reported; killed and asked again."""

import json
from typing import Any

import dagster as dg
import pytest

from tests.training_assets.finals.conftest import AP, IOU, RATES, SPACE, WINDOW
from trainer.contract.train_config import TrainConfig
from training_assets.launchers import LaunchSpec
from training_assets.lineage import describe
from training_assets.records import TrialRun
from training_assets.stores.entries import RegistryEntry
from training_assets.sweeps.learning import apply, read_proposal
from training_assets.sweeps.report import read_summary


def set_target(swept: Any, value: float) -> None:
    with open(swept.graph.profile.recipes / "tiny.yaml", "a") as recipe:
        recipe.write(f"release: {{targets: {{{IOU}: {value}}}}}\n")
    swept.graph = swept.graph.edited()


@pytest.mark.slow
def test_the_best_trial_is_registered_with_its_sweep(through: Any) -> None:
    assert through.report().success
    entry = through.registry.find("tests@1.0.0")
    assert entry.lineage.sweep.model_dump() == {"tune": "t", "trial": "t-cv1"}
    assert "winner of sweep t, as trial t-cv1" in describe(entry, through.registry)
    assert "optim.lr=0.03" in entry.lineage.run.overrides
    assert {"sweep_summary.json", "sweep_report.md", "sweep.yaml", "best.pt", "model.onnx"} <= set(entry.files)
    assert {alias.rpartition("/")[0] for alias in through.registry.aliases("tests")} == {
        "candidate/detection", "candidate/segmentation",
    }  # fmt: skip
    summary = read_summary(through.place.report)
    assert summary.outcome.registered.startswith("tests@1.0.0 (candidate/detection/")
    assert [row.name for row in summary.trials] == ["t-cv1", "t-cv2", "t-cv0"]
    assert through.check.passed
    assert through.shown["winner"] == "t-cv1"


def test_an_entry_of_a_time_without_sweeps_is_still_read(through: Any) -> None:
    assert through.report().success
    entry = through.registry.find("tests@1.0.0").model_dump(mode="json")
    del entry["lineage"]["sweep"]
    assert RegistryEntry.model_validate(entry).lineage.sweep is None


def test_the_best_few_are_packaged_and_judged_on_what_no_trial_has_seen(through: Any) -> None:
    assert through.report().success
    assert through.record.best == ("t-cv1", "t-cv2")
    for name, rate in (("1-t-cv1", 0.03), ("2-t-cv2", 0.02)):
        package = through.place.report / "top" / name
        assert {"best.pt", "model.onnx", "model_card.md", "dashboard.html", "eval_report.json"} <= {
            path.name for path in package.iterdir()
        }
        assert f"lr: {rate}" in (package / "train.yaml").read_text()
    first = read_summary(through.place.report).outcome.packages[0]
    assert first.holdout[IOU] == pytest.approx(0.53)
    assert "task detection does not know the box categories" in through.shown["report"]  # the smoke set's


@pytest.mark.slow
def test_made_again_nothing_is_launched_or_registered_again_not_even_beside_itself_in_production(through: Any) -> None:
    assert through.report().success
    before, files = len(through.trainer.launched), through.registry.find("tests@1.0.0").files
    assert through.report().success
    assert len(through.trainer.launched) == before
    through.registry.promote("tests", "1.0.0", by="test")
    assert through.report().success
    assert through.registry.versions("tests") == ["1.0.0"]
    assert through.registry.find("tests@1.0.0").files == files
    assert len(list((through.graph.profile.store / "registry/tests/aliases/candidate").rglob("*.json"))) == 2


@pytest.mark.slow
def test_killed_between_two_evaluations_it_goes_on_with_the_second(through: Any, monkeypatch: Any) -> None:
    judge, before = through.trainer.evaluate, through.launched("evaluate")

    def killed(spec: LaunchSpec) -> None:
        if through.launched("evaluate") == before + 2:
            raise KeyboardInterrupt
        judge(spec)

    monkeypatch.setattr(through.trainer, "evaluate", killed)
    assert not through.report().success
    monkeypatch.undo()
    assert through.report().success
    assert through.launched("evaluate") == before + 3
    assert through.registry.versions("tests") == ["1.0.0"]


@pytest.mark.slow
def test_killed_after_the_registration_it_is_told_and_not_registered_again(through: Any, monkeypatch: Any) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("training_assets.finals.end.announced", lambda *arguments: 1 / 0)
        assert not through.report().success
    assert through.registry.versions("tests") == ["1.0.0"]
    assert through.report().success
    assert through.registry.versions("tests") == ["1.0.0"]
    assert len(through.registry.aliases("tests")) == 2
    assert '"model.registered"' in (through.graph.profile.store / "events.jsonl").read_text()


def test_where_none_passes_the_release_nothing_is_registered_and_the_gate_is_named(through: Any) -> None:
    set_target(through, 0.9)
    assert through.report().success
    assert through.registry.versions("tests") == []
    assert not through.check.passed
    assert through.check.description.startswith(
        "t-cv1: targets_met: segmentation mIoU 0.53, asked for at least 0.9: missed by 0.37"
    )
    assert through.record.registered is None
    assert "t-cv1 is not registered, targets_met" in through.shown["report"]


@pytest.mark.slow
def test_the_second_wins_where_the_first_does_not_pass_the_release(swept: Any) -> None:
    def one_bad_on_all(config: TrainConfig) -> dict[str, float]:
        return {IOU: 0.5 + config.optim.lr, AP: 0.1 if config.optim.lr == 0.03 else 0.6}

    swept.trainer.worth = one_bad_on_all
    with open(swept.graph.profile.recipes / "tiny.yaml", "a") as recipe:
        recipe.write(f"release: {{targets: {{{AP}: 0.5}}}}\n")
    swept.graph = swept.graph.edited()
    swept.started(SPACE).tried(RATES)
    assert swept.report().success
    assert swept.registry.find("tests@1.0.0").lineage.sweep.trial == "t-cv2"
    assert "t-cv1 is not registered, targets_met: detection AP50" in swept.shown["report"]


@pytest.mark.slow
def test_a_trial_that_is_worse_than_production_on_a_safety_critical_slice_may_not_win(swept: Any) -> None:
    swept.started(SPACE).tried(RATES[:1])
    assert swept.report().success
    swept.registry.promote("tests", "1.0.0", by="test")
    swept.trainer.nights = lambda config: {IOU: 0.4} if config.optim.lr == 0.03 else {}
    swept.started({**SPACE, "max_regression_percent": 5}, tune="second").tried(RATES)
    assert swept.report().success
    assert swept.record.best[0] == "second-cv2"
    assert "second-cv1 may not win, slices_kept: night: segmentation mIoU 0.4, production" in swept.shown["report"]


def test_a_sweep_whose_trials_run_is_refused(swept: Any, failure: Any) -> None:
    swept.started(SPACE).tried(RATES, ended=False)
    assert "trials 0, 1, 2 have not ended" in failure(swept.report())


@pytest.mark.slow
def test_a_broken_constraint_keeps_a_trial_out(swept: Any) -> None:
    swept.started({**SPACE, "constraints": [f"{IOU} <= 0.525"]}).tried(RATES)
    assert swept.report().success
    assert swept.record.winner == "t-cv2"
    assert swept.record.best == ("t-cv2", "t-cv0")


@pytest.mark.slow
def test_a_slice_that_all_trials_fail_asks_for_data_once(swept: Any) -> None:
    swept.trainer.nights = lambda config: {IOU: 0.3 + config.optim.lr}
    swept.graph.edit("slices.yaml", lambda text: text + "  targets: {segmentation/mIoU: 0.4}\n")
    assert swept.graph.run("dataset_version", "eval_shards").success
    assert swept.graph.run("tiny/training_set", window=WINDOW).success
    swept.started(SPACE).tried(RATES)
    assert swept.report().success
    assert swept.report().success
    request = json.loads((swept.place.report / "data_request.json").read_text())
    (wanted,) = request["slices"]
    assert (wanted["slice"], wanted["metric"], wanted["trials"]) == ("night", IOU, 3)
    assert (wanted["best_trial"], round(wanted["gap"], 6)) == ("t-cv1", 0.07)
    assert wanted["frames"]["present"] == 12
    assert set(wanted["examples"]) == {"val000", "val004"}
    told = (swept.graph.profile.store / "events.jsonl").read_text()
    assert told.count('"data.requested"') == 1
    assert read_summary(swept.place.report).outcome.data_request == "data_request.json"


def test_the_winners_settings_are_proposed_for_the_recipe(through: Any) -> None:
    assert through.report().success
    proposal = read_proposal(through.place.report / "proposal" / "proposal.json")
    assert [(one.field, one.before, one.after) for one in proposal.changes] == [("optim.lr", 0.01, 0.03)]
    assert apply(proposal, through.graph.profile.recipes.parent) == [through.graph.profile.recipes / "tiny.yaml"]


@pytest.mark.slow
def test_the_winner_of_cross_validations_is_trained_on_all_of_the_data_once(swept: Any) -> None:
    swept.started({**SPACE, "top_k": 1, "max_regression_percent": 5}).tried(RATES)
    for number in range(3):
        key = dg.AssetKey(["tiny", "trial"])
        record = swept.graph.records.read(key, f"t-cv{number}", TrialRun)
        nothing = dict.fromkeys(("checkpoint", "exported", "evaluation"))
        swept.graph.records.write(key, f"t-cv{number}", record.model_copy(update=nothing))
    before = swept.launched("train")
    assert swept.report().success
    assert swept.report().success
    assert swept.launched("train") == before + 1
    entry = swept.registry.find("tests@1.0.0")
    assert entry.lineage.sweep.trial == "t-cv1"
    assert "optim.lr=0.03" in entry.lineage.run.overrides
    assert [gate.name for gate in entry.gates][-1] == "slices_kept"
