"""A second materialisation does what changed, and nothing else."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from trainer.contract.errors import ContractError
from training_assets.demo import fitting_recipes, put_into_inbox
from training_assets.in_process import Stopped, refresh_dataset, run_chain, stage_windows
from training_assets.jobs import DATASET_ASSETS
from training_assets.planning import chosen_window
from training_assets.recipes import load_recipes
from training_assets.records import DatasetVersion
from training_assets.refresh import Refresher
from training_assets.stores.inbox import LocalInbox

WINDOW = "2026-01-12"
DATASET_NAMES = [name for name in DATASET_ASSETS if name != "reference_profile"]


class Demo:
    """What ``demo`` does, with the test's instance and launcher."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.refresher = Refresher(graph.defs, graph.instance)
        self.recipe = load_recipes(graph.profile.recipes)[0]["tiny"]

    def run(self) -> list[str]:
        """The assets that were materialised."""
        before = {record.run_id for record in self.graph.instance.get_runs()}
        delivery = LocalInbox(self.graph.inbox).find("delivery")
        refresh_dataset(self.refresher, delivery, DATASET_NAMES)
        stage_windows(self.refresher, self.graph.profile, [self.recipe], WINDOW)
        run_chain(self.refresher, self.recipe, WINDOW)
        runs = [run.run_id for run in self.graph.instance.get_runs() if run.run_id not in before]
        events = [event for run in runs for event in self.graph.instance.all_logs(run)]
        keys = {e.dagster_event.asset_key.to_user_string() for e in events if e.is_dagster_event and _made(e)}
        return sorted(keys)


def _made(event: Any) -> bool:
    return bool(event.dagster_event.is_step_materialization)


@pytest.fixture(scope="module")
def demo_once(make_graph: Any, snapshot: Any) -> Iterator[Any]:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = make_graph(instance)
        assert len(Demo(graph).run()) == 9
        yield snapshot(graph)


@pytest.fixture
def demo(demo_once: Any) -> Demo:
    """After its first time."""
    return Demo(demo_once.restored())


def test_nothing_is_run_when_nothing_changed(demo: Demo) -> None:
    launched = len(demo.graph.trainer.launched)
    assert demo.run() == []
    assert len(demo.graph.trainer.launched) == launched


@pytest.mark.slow
def test_another_slices_file_is_judged_anew_but_not_trained_anew(demo: Demo) -> None:
    demo.graph.edit("slices.yaml", lambda text: text.replace("min_samples: 2", "min_samples: 3"))
    made = demo.run()
    assert "dataset_version" in made
    assert "tiny/eval_report" in made
    assert "tiny/checkpoint" not in made
    assert len(demo.graph.trainer.commands("train")) == 1


@pytest.mark.slow
def test_a_row_that_is_taken_away_is_trained_anew(demo: Demo) -> None:
    demo.graph.edit("golden_train.manifest", lambda text: "".join(text.splitlines(keepends=True)[:-1]))
    made = demo.run()
    assert {"dataset_version", "staged_shards", "tiny/training_set", "tiny/checkpoint", "tiny/registry_entry"} <= set(
        made
    )


@pytest.mark.slow
def test_a_recipe_that_changed_is_trained_anew_on_the_same_shards(demo: Demo) -> None:
    path = demo.graph.profile.recipes / "tiny.yaml"
    path.write_text(path.read_text().replace("lr: 0.01", "lr: 0.02"))
    other = demo.graph.edited()
    made = Demo(other).run()
    assert "tiny/checkpoint" in made
    assert not {"dataset_version", "staged_shards", "eval_shards"} & set(made)


@pytest.mark.slow
def test_a_failed_gate_stops_with_its_name(graph: Any, trainer: Any, profile: Any) -> None:
    with open(profile.recipes / "tiny.yaml", "a") as recipe:
        recipe.write("release: {targets: {segmentation/mIoU: 0.9}}\n")
    other = type(graph)(profile, graph.instance, launcher=trainer)
    with pytest.raises(Stopped, match="gate not passed: tiny/eval_report: targets_met_on_every_slice"):
        Demo(other).run()
    with pytest.raises(Stopped, match="gate targets_met"):  # nothing but the registration is left to run
        Demo(other).run()


def test_a_delivery_is_in_the_inbox_once_and_under_another_name_once_it_changed(delivery: Path, tmp_path: Path) -> None:
    inbox = LocalInbox(tmp_path / "inbox")
    shutil.copytree(delivery, tmp_path / "my data")
    first = put_into_inbox(tmp_path / "my data", inbox)
    assert put_into_inbox(tmp_path / "my data", inbox) == first
    assert first.name.startswith("my-data-")
    with open(tmp_path / "my data" / "slices.yaml", "a") as slices:
        slices.write("# changed\n")
    second = put_into_inbox(tmp_path / "my data", inbox)
    assert inbox.newest() == second != first
    with pytest.raises(ContractError, match=r"golden_train.manifest: found nothing"):
        put_into_inbox(tmp_path, inbox)


def test_recipes_that_do_not_fit_are_named_with_their_reasons(demo: Demo, capsys: pytest.CaptureFixture[str]) -> None:
    text = (demo.graph.profile.recipes / "tiny.yaml").read_text()
    other = text.replace("name: tiny", "name: lanes_only").replace("detection:", "lanes:")
    (demo.graph.profile.recipes / "lanes_only.yaml").write_text(other)
    dataset = demo.graph.record("dataset_version", DatasetVersion)
    assert [one.name for one in fitting_recipes(demo.graph.profile, dataset, None)] == ["tiny"]
    assert "recipe lanes_only: does not fit: task lanes needs 'lanes' labels" in capsys.readouterr().out
    with pytest.raises(ContractError, match="no recipe fits this delivery"):
        fitting_recipes(demo.graph.profile, dataset, "lanes_only")
    with pytest.raises(ContractError, match="no such recipe"):
        fitting_recipes(demo.graph.profile, dataset, "nope")


def test_the_newest_window_with_rows_is_trained_unless_another_is_asked_for(demo: Demo) -> None:
    dataset = demo.graph.record("dataset_version", DatasetVersion)
    assert chosen_window(demo.graph.profile, dataset, None) == WINDOW
    assert chosen_window(demo.graph.profile, dataset, "2026-01-05") == "2026-01-05"
    with pytest.raises(ContractError, match=r"found 2026-01-06, expected one of the windows with rows: 2026-01-05"):
        chosen_window(demo.graph.profile, dataset, "2026-01-06")


def test_lineage_prints_every_delivered_frame_and_promotion_moves_production(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from training_assets.__main__ import main

    for name in ("store", "inbox", "recipes"):
        monkeypatch.setenv(f"TRAINING_ASSETS_{name.upper()}", str(getattr(demo.graph.profile, name)))
    assert main(["lineage", "tests@1.0.0", "--frames"]) == 0
    printed = capsys.readouterr().out
    rows = (demo.graph.delivery / "golden_train.manifest").read_text().splitlines()
    assert all(json.loads(row)["sha256"] in printed for row in rows)
    assert main(["lineage", "tests@production"]) == 2
    assert main(["promote", "tests@1.0.0", "--reason", "looks good"]) == 0
    assert main(["lineage", "tests@production"]) == 0
    assert "looks good" in capsys.readouterr().out
    assert main(["summary"]) == 0
    assert "tests@1.0.0" in capsys.readouterr().out


def test_other_limits_are_judged_anew_but_not_trained_anew(demo: Demo) -> None:
    with open(demo.graph.profile.recipes / "tiny.yaml", "a") as recipe:
        recipe.write("release: {targets: {segmentation/mIoU: 0.6}}\n")
    other = demo.graph.edited()
    assert Demo(other).run() == ["tiny/model_card", "tiny/registry_entry"]


@pytest.mark.slow
def test_what_lies_behind_an_asset_that_will_change_waits_for_it(demo: Demo) -> None:
    """Another training and other limits at once: the card must not be written of the old report."""
    path = demo.graph.profile.recipes / "tiny.yaml"
    path.write_text(path.read_text().replace("lr: 0.01", "lr: 0.02") + "release: {latency_p95_ms: 99}\n")
    other = demo.graph.edited()
    made = Demo(other).run()
    assert {"tiny/checkpoint", "tiny/exported_model", "tiny/eval_report", "tiny/registry_entry"} <= set(made)
