"""The weights that a training begins with, looked up in the registry once for all tries of a run."""

from pathlib import Path

import dagster as dg
import pytest

from trainer.contract.train_config import TrainConfig
from training_assets.stores.objects import store_at
from training_assets.stores.registry import Registry
from training_assets.warm_start import warm_start


@pytest.fixture
def recipe() -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "name": "scenes", "project": "scenes", "data": {"image_size": [64, 64]}, "tasks": {"segmentation": {}},
            "model": {"warm_start": "production"}, "training": {"monitor": "segmentation/mIoU"},
        }
    )  # fmt: skip


def arguments(recipe: TrainConfig, registry: Registry, directory: Path) -> tuple[str, ...]:
    directory.mkdir(exist_ok=True)
    return warm_start(dg.build_asset_context(), recipe, registry, directory)


def test_the_alias_is_looked_up_once_for_all_tries_of_a_run(recipe, tmp_path, draft, files):
    registry = Registry(tmp_path / "store")
    assert arguments(recipe, registry, tmp_path / "first") == ("--no-warm-start",)
    entry = registry.register(draft(), files)
    registry.promote("scenes", entry.version, by="test")
    assert arguments(recipe, registry, tmp_path / "first") == ("--no-warm-start",)
    expected = ("--warm-start", str(registry.file(entry, "best.pt")))
    assert arguments(recipe, registry, tmp_path / "second") == expected
    assert Path(expected[1]).is_file()


def test_a_recipe_without_one_asks_nobody_and_a_file_is_taken_as_it_is(recipe, tmp_path, files):
    registry = Registry(tmp_path / "store")
    plain = recipe.model_copy(update={"model": recipe.model.model_copy(update={"warm_start": None})})
    assert arguments(plain, registry, tmp_path / "plain") == ()
    file = recipe.model_copy(update={"model": recipe.model.model_copy(update={"warm_start": str(files["best.pt"])})})
    assert arguments(file, registry, tmp_path / "file") == ("--warm-start", str(files["best.pt"]))


def test_weights_that_were_fetched_and_cleared_away_are_fetched_again(recipe, tmp_path, draft, files, s3):
    registry = Registry(tmp_path / "store", store_at(f"{s3}/archive"))
    entry = registry.register(draft(), files)
    registry.promote("scenes", entry.version, by="test")
    (_, first) = arguments(recipe, registry, tmp_path / "run")
    assert Path(first).is_relative_to(tmp_path / "store" / "fetched")
    Path(first).unlink()
    registry.register(draft("zzzzzzzz"), files)
    registry.promote("scenes", "1.1.0", by="test")
    (_, again) = arguments(recipe, registry, tmp_path / "run")
    assert again == first
    assert Path(again).read_bytes() == files["best.pt"].read_bytes()
