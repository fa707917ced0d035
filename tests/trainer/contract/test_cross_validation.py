"""What is asked of a cross-validation, and its plan."""

import pytest
from pydantic import ValidationError

from trainer.contract.cross_validation import plan_of, read_plan, write_plan
from trainer.contract.cross_validation_settings import CrossValidation, seeds
from trainer.contract.errors import ContractError
from trainer.contract.names import RUN_ID
from trainer.contract.train_config import read_config

DIGEST = "0" * 64


def test_the_first_seeds_are_known_and_the_others_always_the_same():
    # random.Random(42).sample(range(9999), 2) is [1824, 409] in every CPython since 3.2.
    assert seeds(1) == (42,)
    assert seeds(2) == (42, 21)
    assert seeds(5) == (42, 21, 69, 1824, 409)
    assert len(set(seeds(900))) == 900


def test_the_plan_goes_through_the_folds_of_each_seed(recipe, tmp_path):
    asked = ["cross_validation.folds=2", "cross_validation.method=kfold", "cross_validation.seeds=2"]
    plan = plan_of("night-cv7", "night", read_config(recipe, asked, environment={}), DIGEST)
    assert [run.key for run in plan.runs] == ["f0s42", "f1s42", "f0s21", "f1s21"]
    assert plan.runs[2].run_name == "night-cv7-run-f0s21"
    assert all(RUN_ID.match(run.run_id) for run in plan.runs)
    assert len({run.run_id for run in plan.runs}) == 4
    assert plan.directory_of(plan.runs[2]) == f"night-cv7-run-f0s21-{plan.runs[2].run_id}"
    identity = plan.identity_of(plan.runs[0])
    assert (identity.id, identity.name) == (plan.runs[0].run_id, "night-cv7-run-f0s42")
    assert (identity.group, identity.job_type) == ("night", "night-cv7")
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan


def test_by_default_it_is_one_run_with_the_recipes_own_seed(recipe):
    config = read_config(recipe, ["seed=7"], environment={})
    plan = plan_of("one", None, config, DIGEST)
    assert [run.key for run in plan.runs] == ["f0s7"]
    assert plan.metrics == ("segmentation/mIoU",)


def test_only_the_first_folds_can_be_trained(recipe):
    asked = ["cross_validation.folds=5", "cross_validation.method=kfold", "cross_validation.run_folds=2"]
    plan = plan_of("few", None, read_config(recipe, asked, environment={}), DIGEST)
    assert [run.key for run in plan.runs] == ["f0s42", "f1s42"]


def test_how_a_recipe_is_cross_validated_is_no_part_of_what_a_training_computes(recipe):
    plain = read_config(recipe, environment={})
    crossed = read_config(
        recipe, ["cross_validation={folds: 5, method: region, seeds: [1, 2], score: {mean: min}}"], environment={}
    )
    assert crossed.digest == plain.digest


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"folds": 3}, "at least 2 with any other"),
        ({"method": "kfold"}, "1 with none"),
        ({"folds": 3, "method": "kfold", "run_folds": 4}, "run_folds 4 of 3"),
        ({"seeds": []}, "at least one"),
        ({"seeds": [1, 1]}, "each once"),
        ({"seeds": 901}, "900"),
        ({"pool": ["val"]}, "train"),
        ({"test": {"method": "sample"}}, "test.values"),
        ({"test": {"method": "random", "values": ["a"]}}, "no meaning"),
    ],
)
def test_what_does_not_fit_together_is_refused(asked, told):
    with pytest.raises(ValidationError, match=told):
        CrossValidation.model_validate(asked)


def test_a_score_is_of_the_recipes_tasks(recipe):
    with pytest.raises(ContractError, match="lanes/F1"):
        read_config(recipe, ["cross_validation.score.metrics=[lanes/F1:higher]"], environment={})


def test_there_must_be_a_plan(tmp_path):
    with pytest.raises(ContractError, match="no cross-validation"):
        read_plan(tmp_path)
