"""The folds of a cross-validation are data directories over the shards that are there already."""

import argparse
import json

import pytest

from trainer.contract.cross_validation import read_plan
from trainer.contract.errors import ContractError
from trainer.contract.shard_index import read_data_spec
from trainer.contract.train_config import read_config
from trainer.crossval.start import fold_directory, started
from trainer.data.loader import open_data
from trainer.data.staging import data_directory


@pytest.fixture(scope="module")
def data(delivery, tmp_path_factory):
    return data_directory(delivery, tmp_path_factory.mktemp("data"), print)


def start(recipe, data, directory, asked, *overrides):
    directory.mkdir(exist_ok=True)
    config = read_config(recipe, [f"cross_validation={asked}", *overrides], environment={})
    return started(argparse.Namespace(data=data, tune=None), config, directory, print)


def ids(reader):
    return [reader.row(number).sample_id for number in range(len(reader))]


def test_each_sample_of_the_pool_is_validated_on_once_and_nothing_is_copied(recipe, data, tmp_path):
    start(recipe, data, tmp_path / "cv", "{folds: 3, method: kfold, pool: [train, val]}")
    validated, pooled = [], {f"train{number:03d}" for number in range(48)} | {f"val{number:03d}" for number in range(8)}
    for fold in range(3):
        readers = open_data(fold_directory(tmp_path / "cv", fold)).readers
        train, val = ids(readers["train"]), ids(readers["val"])
        assert not set(train) & set(val)
        assert set(train) | set(val) == pooled
        assert readers["val"].label_counts["boxes"] == len(val)
        assert ids(readers["test"]) == [f"test{number:03d}" for number in range(8)]
        validated += val
    assert sorted(validated) == sorted(pooled)
    assert not list((tmp_path / "cv").rglob("*.tar"))


def test_val_is_left_out_where_train_alone_is_pooled(recipe, data, tmp_path):
    start(recipe, data, tmp_path / "cv", "{folds: 2, method: stratified, stratum: time_of_day}")
    readers = open_data(fold_directory(tmp_path / "cv", 1)).readers
    assert len(readers["train"]) == len(readers["val"]) == 24
    assert all(name.startswith("train") for name in ids(readers["train"]) + ids(readers["val"]))


def test_without_folds_the_data_is_what_it_was(recipe, data, tmp_path):
    plan = start(recipe, data, tmp_path / "cv", "{}")
    fold = read_data_spec(fold_directory(tmp_path / "cv", 0))
    assert fold.digest == read_data_spec(data).digest == plan.data_digest


def test_what_is_held_out_is_the_test_of_every_fold(recipe, data, tmp_path):
    start(recipe, data, tmp_path / "cv", "{test: {method: sample, values: [train004, train040]}}")
    readers = open_data(fold_directory(tmp_path / "cv", 0)).readers
    assert ids(readers["test"]) == ["train004", "train040"]
    assert len(readers["train"]) == 46
    assert ids(readers["val"]) == [f"val{number:03d}" for number in range(8)]


def test_folds_can_be_cut_out_of_a_fold(recipe, data, tmp_path):
    start(recipe, data, tmp_path / "outer", "{folds: 3, method: kfold}")
    outer = fold_directory(tmp_path / "outer", 0)
    start(recipe, outer, tmp_path / "inner", "{folds: 2, method: kfold}")
    readers = open_data(fold_directory(tmp_path / "inner", 0)).readers
    assert ids(readers["val"]) == [f"train{number:03d}" for number in range(16, 32)]
    assert ids(readers["train"]) == [f"train{number:03d}" for number in range(32, 48)]


def test_started_again_it_has_the_same_plan_and_folds(recipe, data, tmp_path):
    asked = "{folds: 2, method: kfold, test: {method: random}}"
    plan = start(recipe, data, tmp_path / "cv", asked)
    folds = (tmp_path / "cv" / "folds.json").read_bytes()
    assert json.loads(folds)["digest"] == plan.folds_digest
    assert start(recipe, data, tmp_path / "cv", asked, "cross_validation.parallel=cv-parallel") == plan
    assert read_plan(tmp_path / "cv") == plan
    assert (tmp_path / "cv" / "folds.json").read_bytes() == folds


@pytest.mark.parametrize(
    ("overrides", "field"), [(["optim.lr=0.5"], "config_digest"), (["cross_validation.folds=3"], "settings")]
)
def test_another_recipe_or_other_folds_are_refused_under_the_same_name(recipe, data, tmp_path, overrides, field):
    asked = "{folds: 2, method: kfold}"
    start(recipe, data, tmp_path / "cv", asked)
    with pytest.raises(ContractError, match=field):
        start(recipe, data, tmp_path / "cv", asked, *overrides)


def test_other_data_is_refused_under_the_same_name(recipe, data, tmp_path):
    asked = "{folds: 2, method: kfold}"
    start(recipe, data, tmp_path / "cv", asked)
    with pytest.raises(ContractError, match="data_digest"):
        start(recipe, fold_directory(tmp_path / "cv", 0), tmp_path / "cv", asked)
