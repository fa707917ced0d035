"""``sweep.yaml``: any W&B sweep file is one, ours says more, and what is wrong is named before anything starts."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.contract.errors import ContractError
from trainer.contract.train_config import TrainConfig, read_config, with_overrides
from trainer.contract.yaml_io import dump_yaml
from training_assets.sweeps.fitting import DEFAULT_TRIALS, baseline, settled
from training_assets.sweeps.goals import Constraint, Objective
from training_assets.sweeps.parameters import OPTIONAL, REQUIRED, Written, overrides, space_of
from training_assets.sweeps.settings import Budget
from training_assets.sweeps.space import (
    DISTRIBUTIONS,
    Beta,
    Categorical,
    Constant,
    IntUniform,
    LogNormal,
    LogUniform,
    Uniform,
)
from training_assets.sweeps.sweep_file import Sweep, read_sweep

REPOSITORY = Path(__file__).parents[3]
LR = {"distribution": "log_uniform_values", "min": 1e-5, "max": 1e-2}


@pytest.fixture(scope="module")
def recipe() -> TrainConfig:
    return read_config(REPOSITORY / "recipes" / "scenes_multitask.yaml", environment={})


def sweep(**keys: Any) -> Sweep:
    return Sweep.model_validate({"parameters": {"optim.lr": LR}, **keys})


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    return path


# From W&B's documentation, "Sweep configuration options", and a training script that states its own sweep.
OF_THE_MANUAL = """
program: train.py
method: random
metric:
  goal: minimize
  name: loss
parameters:
  batch_size:
    distribution: q_log_uniform_values
    max: 256
    min: 32
    q: 8
  dropout:
    values: [0.3, 0.4, 0.5]
  epochs:
    value: 1
  fc_layer_size:
    values: [128, 256, 512]
  learning_rate:
    distribution: uniform
    max: 0.1
    min: 0
  optimizer:
    values: ["adam", "sgd"]
"""
NESTED = """
program: train.py
method: bayes
name: nested
metric: {name: val/auc, goal: maximize, target: 0.99}
run_cap: 20
parameters:
  model:
    parameters:
      max_depth: {distribution: int_uniform, min: 4, max: 12}
      learning_rate: {distribution: log_uniform, min: -4.6, max: -2.3}
      subsample: {min: 0.6, max: 1}
  lr: {max: 1e-3, min: 1e-6, distribution: log_uniform_values}
early_terminate: {type: hyperband, min_iter: 5, eta: 3, s: 2, strict: true}
command:
  - ${env}
  - ${interpreter}
  - ${program}
  - ${args}
  - 7
"""


def test_the_manuals_own_file_is_a_sweep(tmp_path: Path) -> None:
    found = read_sweep(written(tmp_path, OF_THE_MANUAL))
    assert found.strategy.name == "random"
    assert found.goals.objectives == (Objective("loss", "minimize"),)
    assert found.baseline == "include"
    assert found.budget == Budget()
    distributions = {one.name: one.distribution for one in found.space.parameters}
    assert distributions["batch_size"] == LogUniform(32, 256, 8)
    assert distributions["epochs"] == Constant(1)
    assert distributions["learning_rate"] == Uniform(0, 0.1)
    assert distributions["optimizer"] == Categorical(("adam", "sgd"))


def test_nested_parameters_are_called_by_their_dotted_names_and_1e_3_is_a_number(tmp_path: Path) -> None:
    found = read_sweep(written(tmp_path, NESTED))
    distributions = {one.name: one.distribution for one in found.space.parameters}
    assert distributions["model.max_depth"] == IntUniform(4, 12)
    assert distributions["model.learning_rate"] == LogUniform.of_exponents(-4.6, -2.3)
    assert distributions["model.subsample"] == Uniform(0.6, 1)
    assert distributions["lr"] == LogUniform(1e-6, 1e-3)
    assert (found.strategy.name, found.early_stop.first_rung, found.early_stop.eta) == ("bayes+asha", 5, 3)
    assert found.budget.max_trials == 20
    assert found.target == 0.99


@pytest.mark.parametrize(
    ("keys", "distribution"),
    [
        ({"value": [1, 2]}, Constant((1, 2))),
        ({"values": [1, {"a": None}]}, Categorical((1, '{"a": null}'))),
        ({"values": ["a", "b"], "probabilities": [0.25, 0.75]}, Categorical(("a", "b"), (0.25, 0.75))),
        ({"min": 1, "max": 3}, IntUniform(1, 3)),
        ({"min": 1, "max": 3.0}, Uniform(1, 3.0)),
        ({"distribution": "uniform", "min": 1, "max": 3}, Uniform(1, 3)),
        ({"distribution": "log_normal", "mu": 2}, LogNormal(2, 1.0)),
        ({"distribution": "q_beta", "a": 2, "b": 5, "q": 0.25}, Beta(2, 5, 0.25)),
    ],
)
def test_a_distribution_that_is_not_named_follows_from_the_keys_as_in_wandb(
    keys: dict[str, Any], distribution: object
) -> None:
    (found,) = space_of({"x": keys}, "sweep.yaml").parameters
    assert found.distribution == distribution


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"min": 1}, "a distribution"),
        ({"distribution": "uniform", "values": [1]}, "min and max"),
        ({"distribution": "normal", "min": 0, "max": 1}, "no max and min"),
        ({"distribution": "gaussian"}, "distribution"),
        ({"min": 3, "max": 1}, "min 3 is above max 1"),
        ({"min": "1", "max": 3}, "number"),
        ({"values": [], "valeus": [1]}, "misspelt"),
        ({"values": [1, 2], "probabilities": [0.5, 0.2]}, "add up"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "positive"),
        (7, "dictionary"),
    ],
)
def test_a_parameter_that_is_none_is_named_with_what_was_expected(keys: Any, expected: str) -> None:
    with pytest.raises(ContractError, match=r"field 'parameters\.x\.y") as found:
        space_of({"x": {"parameters": {"y": keys}}}, "sweep.yaml")
    assert expected in str(found.value)


def test_a_key_of_nobodys_schema_is_refused_by_name(tmp_path: Path) -> None:
    path = written(
        tmp_path, "method: random\nparallelism: 3\nmetric: {name: a, gaol: maximize}\nparameters: {x: {value: 1}}"
    )
    with pytest.raises(ContractError) as found:
        read_sweep(path)
    assert {problem.field for problem in found.value.problems} == {"parallelism", "metric.gaol"}


@pytest.mark.parametrize(
    ("method", "early_terminate", "strategy"),
    [
        ("random", None, "random"),
        ("grid", None, "grid"),
        ("bayes", None, "bayes"),
        ("random", {"type": "hyperband", "min_iter": 2}, "asha"),
        ("bayes", {"type": "hyperband", "max_iter": 27, "s": 2}, "bayes+asha"),
        ("custom", None, "bayes+asha"),
    ],
)
def test_wandbs_method_and_hyperband_are_a_strategy(method: str, early_terminate: Any, strategy: str) -> None:
    keys = {"method": method, **({"early_terminate": early_terminate} if early_terminate else {})}
    assert sweep(**keys).strategy.name == strategy
    assert sweep(**keys, strategy="pbt").strategy.name == "pbt"


def test_hyperband_from_its_last_iteration_down_begins_where_wandb_says() -> None:
    # W&B's manual: max_iter 27, s 2, eta 3 has brackets at 27/3 and 27/9.
    assert sweep(early_terminate={"type": "hyperband", "max_iter": 27, "s": 2}).early_stop.first_rung == 3


def test_a_grid_with_hyperband_ends_what_is_not_among_the_best_third() -> None:
    found = sweep(method="grid", early_terminate={"type": "hyperband", "min_iter": 4}).early_stop
    assert (round(found.quantile or 0, 6), found.after_epochs) == (0.666667, 4)


def test_what_ours_says_wins_over_what_wandbs_says() -> None:
    found = sweep(
        metric={"name": "a/b"},
        objective=["c/mIoU", {"metric": "d/x", "direction": "minimize"}, "latency_p95_ms", "e/FDE"],
    )
    directions = [(one.metric, one.direction) for one in found.goals.objectives]
    rising, falling = "maximize", "minimize"
    assert directions == [("c/mIoU", rising), ("d/x", falling), ("latency_p95_ms", falling), ("e/FDE", falling)]
    assert found.target is None
    assert sweep(run_cap=9, budget={"max_trials": 3}).budget.max_trials == 3


def test_constraints_name_slices_with_spaces() -> None:
    text = ["latency_p95_ms <= 20", "regression_delta.crowds in rain<=0.02", "segmentation/mIoU@night >= .4"]
    bounds = [(one.metric, one.bound) for one in sweep(constraints=text).goals.constraints]
    assert bounds == [
        ("latency_p95_ms", 20),
        ("regression_delta.crowds in rain", 0.02),
        ("segmentation/mIoU@night", 0.4),
    ]
    with pytest.raises(ValueError, match="a constraint is"):
        sweep(constraints=["latency_p95_ms < 20"])
    with pytest.raises(ValueError, match="a constraint is"):
        sweep(early_stop={"guardrails": ["loss == 1"]})


@pytest.mark.parametrize(("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("1.5d", 129600), (7, 7)])
def test_a_time_is_seconds_or_text(text: Any, seconds: float) -> None:
    assert sweep(budget={"wall_time": text}).budget.wall_time == seconds


@pytest.mark.parametrize("text", ["2 hours", "h", "", "-1h", 0])
def test_what_is_no_time_is_refused(text: Any) -> None:
    with pytest.raises(ValueError):
        sweep(budget={"wall_time": text})


def test_a_sweep_is_the_same_after_it_was_written_down(recipe: TrainConfig, tmp_path: Path) -> None:
    found = settled(read_sweep(REPOSITORY / "sweeps" / "scenes.yaml"), recipe)
    again = read_sweep(written(tmp_path, dump_yaml(found.model_dump(mode="json"))))
    assert again.digest == found.digest
    assert again.space == found.space


@pytest.mark.parametrize("path", sorted((REPOSITORY / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_sweeps_of_the_repository_fit_their_recipes(path: Path) -> None:
    written = read_sweep(path)
    recipe = read_config(REPOSITORY / "recipes" / f"{written.recipe}.yaml", environment={})
    found = settled(written, recipe)
    own = baseline(found, recipe)
    assert len(found.space.units(own)) == len(found.space)
    assert with_overrides(recipe, overrides(own)) == recipe


def test_what_a_sweep_leaves_open_is_the_recipes(recipe: TrainConfig) -> None:
    found = settled(sweep(), recipe)
    assert (found.recipe, found.epochs) == (recipe.name, recipe.training.epochs)
    assert found.goals.first == Objective(recipe.training.monitor)
    assert found.budget.max_trials == DEFAULT_TRIALS
    assert settled(sweep(budget={"gpu_hours": 3}), recipe).budget.max_trials is None
    constant = {"training.epochs": {"value": 4}, "optim.lr": {"value": 0.1}}
    assert settled(sweep(parameters=constant), recipe).epochs == 4
    assert baseline(sweep(parameters=constant), recipe) == {"training.epochs": 4, "optim.lr": 0.1}


@pytest.mark.parametrize(
    ("name", "keys", "expected"),
    [
        ("learning_rate", {"min": 0.1, "max": 0.2}, "like optim.lr"),
        ("optimizer.lr", {"min": 0.1, "max": 0.2}, "optim.lr"),
        ("optim.weight_decya", {"min": 0.1, "max": 0.2}, "optim.weight_decay"),
        ("tasks.detection.wieght", {"value": 1}, "tasks.detection.weight"),
        ("data.batch_size", {"min": 8, "max": 64.0}, "valid integer"),
        ("optim.lr", {"distribution": "normal"}, "greater than 0"),
        ("optim.ema_decay", {"values": [None, 0.9, 1.0]}, "less than 1"),
        ("training.precision", {"values": ["bf16", "fp8"]}, "'fp32', 'bf16' or 'fp16'"),
        ("data.augmentation.scale", {"values": [[1.0, 1.2], [1.5, 1.1]]}, "the lower end comes first"),
        ("window.count", {"min": 1, "max": 4}, "as the graph has it"),
        ("training.epochs", {"min": 1, "max": 4}, "one length of all trials"),
    ],
)
def test_a_parameter_that_the_recipe_would_refuse_is_named_before_anything_starts(
    name: str, keys: dict[str, Any], expected: str, recipe: TrainConfig
) -> None:
    with pytest.raises(ContractError, match=r"sweeps/a\.yaml field 'parameters\.") as found:
        settled(sweep(parameters={"optim.lr": LR, name: keys}), recipe, "sweeps/a.yaml")
    (problem,) = found.value.problems
    assert problem.field == f"parameters.{name}"
    assert expected in problem.expected


def test_values_are_tried_beside_what_is_constant(recipe: TrainConfig) -> None:
    precision = {"training.precision": {"value": "fp16"}, "launch.strategy": {"values": ["ddp", "fsdp"]}}
    with pytest.raises(ContractError, match="does not go with"):
        settled(sweep(parameters=precision), recipe)
    settled(sweep(parameters={**precision, "training.precision": {"value": "bf16"}}), recipe)


def test_an_option_of_a_task_may_be_searched(recipe: TrainConfig) -> None:
    settled(sweep(parameters={"tasks.trajectory.options.hidden": {"values": [32, 64]}}), recipe)


@pytest.mark.parametrize("metric", ["val_loss", "segmentaton/mIoU", "segmentation/", "latency_ms"])
def test_a_metric_that_no_trial_will_have_is_refused(metric: str, recipe: TrainConfig) -> None:
    with pytest.raises(ContractError, match="objective"):
        settled(sweep(objective=metric), recipe)
    with pytest.raises(ContractError, match="constraints"):
        settled(sweep(constraints=[f"{metric} <= 1"]), recipe)


def test_a_grid_of_no_end_is_refused(recipe: TrainConfig) -> None:
    with pytest.raises(ContractError, match="a grid tries each"):
        settled(sweep(strategy="grid"), recipe)
    assert settled(sweep(strategy="grid", parameters={"optim.lr": {"values": [0.1]}}), recipe).budget.max_trials is None


def test_a_sweep_of_another_recipe_is_refused(recipe: TrainConfig) -> None:
    with pytest.raises(ContractError, match="field 'recipe': found 'other'"):
        settled(sweep(recipe="other"), recipe)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def open_recipe() -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "name": "tiny",
            "project": "tests",
            "data": {"image_size": [64, 64]},
            "tasks": {"detection": {}},
            "training": {"monitor": "detection/AP50"},
        }
    )


@given(value=VALUES)
@settings(max_examples=50)
def test_any_value_reaches_the_recipe_as_it_was_written(value: Any, open_recipe: TrainConfig) -> None:
    (one,) = space_of({"tasks.detection.options.x": {"value": value}}, "sweep.yaml").parameters
    (text,) = overrides({one.name: one.distribution.at(0.5)})
    found = with_overrides(open_recipe, [text]).tasks["detection"].options["x"]
    assert json.dumps(found, sort_keys=True) == json.dumps(value, sort_keys=True)


KEYS = st.sampled_from([*Sweep.model_fields, "x", "name", "goal", "type", "min_iter"])
PARAMETER_KEYS = st.sampled_from([*Written.model_fields, "parameters", "x"])
NUMBERS = st.sampled_from(
    [0, -1, 1, 2.5, 1e-320, 1e308, -1e308, 10**400, 1e-5, True, None, "1", "uniform", float("inf")]
)
ANYTHING = st.one_of(NUMBERS, st.sampled_from(sorted(DISTRIBUTIONS)), VALUES)
PARAMETERS = st.dictionaries(PARAMETER_KEYS, st.one_of(NUMBERS, st.sampled_from(sorted(DISTRIBUTIONS)), VALUES))


@pytest.mark.slow
@given(written=st.dictionaries(KEYS, ANYTHING, max_size=6), parameters=st.dictionaries(st.text(max_size=4), PARAMETERS))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_file_says_it_is_a_sweep_or_an_error_that_says_why(
    written: dict[str, Any], parameters: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(dump_yaml({**written, "parameters": parameters}))
    try:
        found = read_sweep(path)
    except ContractError:
        return
    assert len(found.space.at([0.5] * len(found.space))) == len(found.space)
    assert len(found.digest) == 64


@given(distribution=st.sampled_from(sorted(DISTRIBUTIONS)), numbers=st.lists(NUMBERS, min_size=5, max_size=5))
@settings(deadline=None)
def test_whatever_bounds_a_distribution_has_it_is_one_or_an_error(distribution: str, numbers: list[Any]) -> None:
    keys = dict(zip(("min", "max", "mu", "sigma", "q"), numbers, strict=True))
    wanted = {*REQUIRED.get(distribution, ()), *OPTIONAL.get(distribution, ())} & keys.keys()
    try:
        (one,) = space_of({"x": {"distribution": distribution, **{key: keys[key] for key in wanted}}}, "f").parameters
    except ContractError:
        return
    assert one.distribution.at(0.5) is not None


def test_a_curriculum_may_be_searched(recipe: TrainConfig) -> None:
    stages = [[], [{"epoch": 0, "factors": {"lanes": 0.0}}, {"epoch": 3, "factors": {"lanes": 1.0}}]]
    found = settled(sweep(parameters={"balancing.curriculum": {"values": stages}}), recipe)
    (text,) = overrides({"balancing.curriculum": found.space.parameters[0].distribution.nth(1)})
    assert with_overrides(recipe, [text]).balancing.curriculum[1].epoch == 3


def test_a_parsed_constraint_reads_as_it_was_written() -> None:
    assert str(Constraint.parse("regression_delta.night <= 0.02")) == "regression_delta.night <= 0.02"
