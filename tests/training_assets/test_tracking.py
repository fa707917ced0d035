"""What the asset graph tells a run's tracking, and what it shows of it."""

from pathlib import Path
from typing import Any

import pytest

from tests.wandb_reading import read_all
from trainer.contract.files import write_text
from trainer.contract.tracking import Begin, End, Provenance, append, run_url
from trainer.contract.train_config import TrainConfig, read_config
from trainer.contract.yaml_io import dump_yaml
from training_assets.launchers.environment import inherited
from training_assets.records import Checkpoint
from training_assets.sweeps.wandb_trial import WandbTrial
from training_assets.tracking import of_run, tell_card

RUN_ID, WINDOW = "abcd1234", "2026-01-12"


def begun(run_dir: Path, recipe: Path, *overrides: str) -> Path:
    config = read_config(recipe, overrides, environment={})
    write_text(run_dir / "train.yaml", dump_yaml(config.model_dump(mode="json")))
    write_text(run_dir / "run.yaml", dump_yaml({"run_id": RUN_ID, "config_digest": "c", "data_digest": "d" * 64}))
    append(run_dir, Begin(step=0, data="/data"), End(state="finished"))
    return run_dir


def test_a_run_that_was_not_tracked_shows_nothing(tmp_path: Path) -> None:
    assert of_run(tmp_path) == {}


def test_online_the_address_is_shown(recipe: Path, tmp_path: Path) -> None:
    run_dir = begun(tmp_path, recipe, "tracking.mode=online", "tracking.entity=team")
    assert run_url("team", "tests", RUN_ID) == "https://wandb.ai/team/tests/runs/abcd1234"
    shown = of_run(run_dir)
    assert shown["wandb_run"] == RUN_ID
    assert shown["wandb_url"].value == "https://wandb.ai/team/tests/runs/abcd1234"
    assert "wandb_sync" not in shown


@pytest.mark.slow
def test_the_model_card_goes_to_the_run_and_what_sends_it_is_shown(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE")
    run_dir = begun(tmp_path / "run", recipe)
    card = tmp_path / "model_card.md"
    card.write_text("# Card\n")
    warned: list[str] = []
    tell_card(run_dir, card, warned.append)
    assert not warned
    (session,) = read_all(run_dir)
    assert {one.name for one in session.artifacts} == {"training-set", f"model-card-{RUN_ID}"}
    shown = of_run(run_dir)
    assert shown["wandb_offline"].value.endswith(RUN_ID)
    assert shown["wandb_sync"].value == f"`wandb sync {run_dir}/tracking/wandb/offline-run-*`"


def test_a_launched_training_knows_its_lineage_and_its_name(staged: Any) -> None:
    assert staged.run("tiny/training_set", window=WINDOW).success
    assert staged.run("tiny/checkpoint", window=WINDOW).success
    (launched,) = staged.trainer.commands("train")
    record = staged.record("tiny/checkpoint", Checkpoint, WINDOW)
    kept = Provenance.model_validate_json((launched.run_dir / "provenance.json").read_bytes())
    dataset = record.training_set.dataset
    assert (kept.dataset, kept.dataset_dvc, kept.manifests) == (dataset.version, dataset.dvc_hash, dataset.files)
    assert (kept.training_set, kept.window) == (record.training_set.digest, WINDOW)
    assert kept.git_sha == record.code.git_sha
    assert any(path.is_file() for path in Path(kept.directory).iterdir())
    arguments = list(launched.arguments)
    assert launched.run_dir.name.startswith(arguments[arguments.index("--name") + 1])


def test_the_local_launcher_passes_the_key_on_only_where_somebody_asked_for_online() -> None:
    given = {"WANDB_API_KEY": "secret", "WANDB_BASE_URL": "http://w", "HOME": "/h"}
    assert inherited(given) == {"HOME": "/h"}
    assert inherited({**given, "WANDB_MODE": "offline"}) == {"HOME": "/h", "WANDB_MODE": "offline"}
    assert inherited({**given, "WANDB_MODE": "online"}) == {**given, "WANDB_MODE": "online"}


def test_tracking_changes_nothing_of_what_a_training_is(recipe: Path) -> None:
    plain = read_config(recipe, environment={})
    other = read_config(recipe, ["tracking.mode=online", "tracking.every=3"], environment={})
    assert plain.digest == other.digest
    assert plain.tracking.mode == "offline"
    assert TrainConfig.model_validate(other.model_dump()).tracking.every == 3


def test_an_agents_run_is_not_tracked_a_second_time(recipe: Path, tmp_path: Path) -> None:
    spec = WandbTrial(recipe, tmp_path, tmp_path / "runs", {"optim.lr": 0.25}).spec(RUN_ID)
    assert read_config(spec.run_dir / "recipe.yaml", environment={}).tracking.mode == "disabled"
