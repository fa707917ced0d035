"""A run that differs from its recipe: settings, weights to begin with, another profile's launcher."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from training_assets import profiles
from training_assets.launchers import LAUNCHERS
from training_assets.lineage import describe
from training_assets.records import Checkpoint
from training_assets.refresh import out_of_date
from training_assets.stores.registry import Registry

WINDOW = "2026-01-12"
CHAIN = ("training_set", "checkpoint", "exported_model", "eval_report", "model_card", "registry_entry")


@pytest.fixture
def ready(staged: Any) -> Any:
    """The graph with a training set."""
    assert staged.run("tiny/training_set", window=WINDOW).success
    return staged


def train(graph: Any, *assets: str, **config: object) -> Any:
    keys = [f"tiny/{name}" for name in assets or ("checkpoint",)]
    return graph.run(*keys, window=WINDOW, config={"tiny/checkpoint": config})


@pytest.mark.slow
def test_settings_of_one_run_reach_the_training_and_the_lineage_and_leave_the_recipe_alone(ready: Any) -> None:
    overrides = ["optim.lr=0.5", "training.epochs=1"]
    assert train(ready, *CHAIN[1:], overrides=overrides).success
    (launched,) = ready.trainer.commands("train")
    frozen = yaml.safe_load(Path(launched.arguments[1]).read_text())
    assert (frozen["optim"]["lr"], frozen["training"]["epochs"]) == (0.5, 1)
    entry = Registry(ready.places.root).find("tests@1.0.0")
    run = entry.lineage.run
    assert (run.overrides, run.config["optim"]["lr"]) == (tuple(overrides), 0.5)
    assert run.config_digest == ready.record("tiny/checkpoint", Checkpoint, WINDOW).result.config_digest
    assert "optim.lr=0.5, training.epochs=1" in describe(entry, Registry(ready.places.root))

    assert train(ready).success
    first, second = ready.trainer.commands("train")
    assert first.run_dir != second.run_dir
    assert yaml.safe_load(Path(second.arguments[1]).read_text())["optim"]["lr"] == 0.01


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"overrides": ["optim.lr=fast"]}, "recipe tiny field 'optim.lr': found 'fast'"),
    ({"overrides": ["optim.speed=1"]}, "expected no field of this name"),
    ({"overrides": ["epochs"]}, "expected the form a.b=c"),
    ({"overrides": ["window.count=9"]}, "one run of tiny cannot change this"),
    ({"overrides": ["project=other"]}, "found other, expected tests, as the graph has it"),
    ({"overrides": ["data.batch_size=7"]}, "data.batch_size 6 or 8"),
    ({"warm_start": "9.9.9"}, "found no version, alias or checkpoint file '9.9.9'"),
    ({"warm_start": "no such/file.pt"}, "expected one of those that project tests has (nothing yet)"),
    ({"profile": "nope"}, "found 'nope', expected one of"),
]


@pytest.mark.slow
def test_what_cannot_be_used_is_refused_before_anything_is_launched_and_not_tried_again(
    ready: Any, failure: Any
) -> None:
    for config, message in REFUSED:
        result = train(ready, **config)
        assert message in failure(result)
        assert not [event for event in result.all_events if event.event_type == dg.DagsterEventType.STEP_UP_FOR_RETRY]
    assert not ready.trainer.commands("train")


@pytest.mark.slow
def test_the_gates_go_by_the_limits_of_the_run(ready: Any) -> None:
    judged = CHAIN[1:4]
    assert train(ready, *judged).success
    refused = train(ready, *judged, overrides=["release.targets={segmentation/mIoU: 0.9}"])
    failed = [check.check_name for check in refused.get_asset_check_evaluations() if not check.passed]
    assert failed == ["targets_met_on_every_slice"]
    lenient = train(ready, *judged, overrides=["release.parity_tolerance=1"])
    assert lenient.success


@pytest.mark.slow
def test_a_checkpoint_with_other_settings_is_out_of_date_and_one_with_other_first_weights_is_not(ready: Any) -> None:
    def stale() -> list[str]:
        graph = ready.defs.resolve_asset_graph()
        return [one.reason for one in out_of_date(graph, ready.instance, [dg.AssetKey(["tiny", "checkpoint"])], WINDOW)]

    assert train(ready, overrides=["optim.lr=0.5"]).success
    assert stale() == ["has a new code version"]
    assert train(ready).success
    assert stale() == []
    weights = ready.places.root.parent / "best.pt"
    weights.write_bytes(b"weights")
    assert train(ready, warm_start=str(weights)).success
    assert stale() == []


@pytest.mark.slow
def test_the_lineage_names_the_version_or_the_file_that_a_training_began_with(ready: Any, tmp_path: Path) -> None:
    assert train(ready, *CHAIN[1:]).success
    Registry(ready.places.root).promote("tests", "1.0.0", by="test")
    assert train(ready, *CHAIN[1:], warm_start="production").success
    launched = ready.trainer.commands("train")[1]
    weights = Path(launched.arguments[launched.arguments.index("--warm-start") + 1])
    assert weights.read_bytes() == (ready.places.root / "models/tests/1.0.0/best.pt").read_bytes()
    run = Registry(ready.places.root).find("tests@1.1.0").lineage.run
    assert run.warm_started_from == "tests@1.0.0"
    assert run.config["model"]["warm_start"] == "production"

    assert train(ready, warm_start=str(weights)).success
    record = ready.record("tiny/checkpoint", Checkpoint, WINDOW)
    assert record.warm_started_from == Registry(ready.places.root).find("tests@1.0.0").files["best.pt"].sha256


@pytest.fixture
def other_profile(ready: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes profiles beside ours, whose launcher is another one."""
    other = type(ready.trainer)()
    monkeypatch.setattr(profiles, "HERE", tmp_path)
    monkeypatch.setitem(LAUNCHERS, "other", lambda profile: other)

    def write(**changes: object) -> Any:
        ours = json.loads(ready.profile.model_dump_json(exclude={"name"}))
        (tmp_path / "remote.yaml").write_text(yaml.safe_dump({**ours, "launcher": "other", **changes}))
        return other

    return write


def test_another_profile_lends_its_launcher_and_its_launch(ready: Any, other_profile: Any) -> None:
    other = other_profile(launch={"devices": 4})
    assert train(ready, profile="remote").success
    assert not ready.trainer.commands("train")
    (launched,) = other.commands("train")
    assert launched.launch.devices == 4
    assert ready.record("tiny/checkpoint", Checkpoint, WINDOW).profile == "remote"
    assert train(ready, profile="remote", overrides=["launch.devices=2"]).success
    assert other.commands("train")[1].launch.devices == 2


@pytest.mark.slow
def test_the_image_that_a_profile_launches_and_its_commit_are_in_the_lineage(ready: Any, other_profile: Any) -> None:
    image = "registry.example:5000/training-assets/trainer@sha256:" + "a" * 64
    other = other_profile(image={"trainer": image})
    other.revision = "f" * 40
    assert train(ready, *CHAIN[1:], profile="remote").success
    entry = Registry(ready.places.root).find("tests@1.0.0")
    assert (entry.lineage.code.image_digest, entry.lineage.code.git_sha) == (image, "f" * 40)
    assert f"image {image}" in describe(entry, Registry(ready.places.root))
    assert ready.metadata("tiny/checkpoint", WINDOW)["image"] == image

    assert train(ready).success
    assert ready.record("tiny/checkpoint", Checkpoint, WINDOW).code.image_digest is None
    assert ready.metadata("tiny/checkpoint", WINDOW)["image"] == "none: local environment"


def test_a_profile_with_another_store_is_refused(ready: Any, other_profile: Any, failure: Any, tmp_path: Path) -> None:
    other_profile(store=str(tmp_path / "elsewhere"))
    said = failure(train(ready, profile="remote"))
    assert f"profile remote field 'store': found {tmp_path / 'elsewhere'}, expected {ready.places.root}" in said
