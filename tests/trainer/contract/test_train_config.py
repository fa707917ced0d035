"""Recipes: what they must say, and how the environment and --set change them."""

from pathlib import Path

import pytest

from trainer.contract.errors import ContractError
from trainer.contract.slices import parse_slices
from trainer.contract.train_config import TrainConfig, read_config, with_overrides

RECIPE = """\
name: demo
project: driving
data: {image_size: [64, 96], batch_size: 8}
tasks:
  segmentation: {classes: [road, sky]}
  detection: {classes: [car, person]}
optim: {lr: 1e-3}
training: {epochs: 3, monitor: segmentation/mIoU}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "demo.yaml"
    path.write_text(RECIPE)
    return path


def problems(recipe: Path, *overrides: str, environment: dict[str, str] | None = None):
    with pytest.raises(ContractError) as caught:
        read_config(recipe, overrides, environment or {})
    return caught.value.problems


def test_a_recipe_is_read_with_numbers_as_people_write_them(recipe):
    config = read_config(recipe, environment={})
    assert config.optim.lr == 0.001
    assert config.data.image_size == (64, 96)


def test_set_changes_what_it_names_and_nothing_else(recipe):
    changed = read_config(recipe, ["optim.lr=1e-5", "training.epochs=7"], {})
    assert (changed.optim.lr, changed.training.epochs) == (1e-5, 7)
    plain = read_config(recipe, environment={})
    assert changed.model_copy(update={"optim": plain.optim, "training": plain.training}) == plain


def test_set_takes_lists_and_mappings_and_opens_sections(recipe):
    given = ["data.image_size=[32, 32]", "model.blocks=[1,1,1,1]", "tasks.lanes={classes: [lane]}"]
    config = read_config(recipe, given, {})
    assert config.data.image_size == (32, 32)
    assert config.model.blocks == (1, 1, 1, 1)
    assert config.tasks["lanes"].classes == ("lane",)


def test_a_recipe_that_was_read_is_overridden_as_one_that_is_read(recipe):
    given = ["optim.lr=1e-5", "data.image_size=[32, 32]", "tasks.lanes={classes: [lane]}"]
    assert with_overrides(read_config(recipe, environment={}), given) == read_config(recipe, given, {})
    with pytest.raises(ContractError, match=r"recipe demo field 'optim\.lr': found 'fast'"):
        with_overrides(read_config(recipe, environment={}), ["optim.lr=fast"])


def test_the_environment_changes_a_recipe_in_any_case(recipe):
    assert read_config(recipe, (), {"TRAIN__OPTIM__LR": "1e-4", "OTHER": "x"}).optim.lr == 1e-4


def test_set_wins_over_the_environment(recipe):
    assert read_config(recipe, ["optim.lr=3e-4"], {"TRAIN__OPTIM__LR": "1e-4"}).optim.lr == 3e-4


def test_of_two_sets_the_later_wins(recipe):
    assert read_config(recipe, ["seed=1", "seed=2"], {}).seed == 2


@pytest.mark.parametrize("override", ["optim.lr", "=3", " =3"])
def test_a_set_of_another_form_is_refused(recipe, override):
    (problem,) = problems(recipe, override)
    assert (problem.file, problem.found) == ("--set", override)


def test_a_set_that_goes_through_a_value_is_refused(recipe):
    (problem,) = problems(recipe, "name.first=3")
    assert "--set name.first=3" in problem.file
    assert "'demo'" in problem.found


@pytest.mark.parametrize("override", ["optim.lr=[", "optim.lr={a: 1, a: 2}"])
def test_a_set_whose_value_is_no_yaml_names_itself(recipe, override):
    (problem,) = problems(recipe, override)
    assert override in problem.file


def test_an_environment_variable_of_no_yaml_names_itself(recipe):
    (problem,) = problems(recipe, environment={"TRAIN__SEED": "["})
    assert "TRAIN__SEED" in problem.file


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("optim.lrr=1", "optim.lrr"),
        ("optim.lr=0", "optim.lr"),
        ("optim.lr=.nan", "optim.lr"),
        ("optim.lr=.inf", "optim.lr"),
        ("optim.lr=fast", "optim.lr"),
        ("data.batch_size=0", "data.batch_size"),
        ("data.image_size=[62, 64]", "data"),
        ("data.image_size=[64]", "data.image_size.1"),
        ("data.image_size=[0, 64]", "data"),
        ("seed=-1", "seed"),
        ("name=Has Spaces", "name"),
        ("tasks={}", "tasks"),
    ],
)
def test_what_cannot_be_is_named_by_its_field(recipe, override, field):
    found = problems(recipe, override)
    assert field in {problem.field for problem in found}


def test_all_wrong_fields_come_in_one_report(recipe):
    found = problems(recipe, "optim.lr=0", "data.batch_size=0", "nonsense=1")
    assert {"optim.lr", "data.batch_size", "nonsense"} <= {problem.field for problem in found}


def test_a_monitor_of_no_task_is_refused(recipe):
    (problem,) = problems(recipe, "training.monitor=lanes/F1")
    assert "lanes/F1" in problem.expected


@pytest.mark.parametrize("content", ["", "- a\n", "just text"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content):
    path = tmp_path / "demo.yaml"
    path.write_text(content)
    with pytest.raises(ContractError, match="mapping"):
        read_config(path, (), {})


def test_a_recipe_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ContractError, match=r"nowhere\.yaml"):
        read_config(tmp_path / "nowhere.yaml", (), {})


def test_a_recipe_survives_its_own_dump(recipe):
    config = read_config(recipe, environment={})
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


def misfits(recipe: Path, labels: dict[str, int], **declared: object) -> list[str]:
    return read_config(recipe, environment={}).misfits(parse_slices({"labels": declared}), labels)


def test_a_recipe_that_fits_has_no_misfits(recipe):
    labels = {"semantic": 3, "boxes": 4}
    assert misfits(recipe, labels, semantic={"classes": ["road", "sky"]}, boxes=["car"]) == []


def test_misfits_name_labels_classes_and_categories(recipe):
    found = misfits(recipe, {"boxes": 4}, semantic={"classes": ["sky", "road"]}, boxes=["car", "tram"])
    assert len(found) == 3
    assert "'semantic' labels" in found[0]
    assert "['sky', 'road']" in found[1]
    assert "['tram']" in found[2]


def test_a_set_changes_one_of_two_places_that_share_an_alias(recipe):
    text = RECIPE.replace("segmentation: {", "segmentation: &one {").replace("{classes: [car, person]}", "*one")
    recipe.write_text(text)
    config = read_config(recipe, ["tasks.detection.weight=5"], {})
    assert (config.tasks["detection"].weight, config.tasks["segmentation"].weight) == (5.0, 1.0)


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("tasks.detection.classes=[car, car]", "tasks.detection.classes"),
        ("model.blocks=[1, 1, 1]", "model.blocks.3"),
        ("model.blocks=[1, 1, 0, 1]", "model.blocks.2"),
        ("data.augmentation.scale=[2, 1]", "data.augmentation.scale"),
    ],
)
def test_what_no_network_or_loader_can_be_made_of_is_refused(recipe, override, field):
    (problem,) = problems(recipe, override)
    assert problem.field == field


def test_an_ignore_value_among_the_classes_must_be_known_to_the_recipe(recipe):
    slices = parse_slices({"labels": {"semantic": {"classes": ["road", "sky"], "ignore_id": 0}}})
    counts = {"boxes": 1, "semantic": 1}
    (reason,) = read_config(recipe, environment={}).misfits(slices, counts)
    assert "ignore_id" in reason
    told = read_config(recipe, ["tasks.segmentation.options={ignore_id: 0}"], {})
    assert told.misfits(slices, counts) == []


def test_a_box_category_that_is_there_but_not_declared_is_a_misfit(recipe):
    for count in (1, 0):  # 0: all of them are to be ignored
        counts = {"boxes": 2, "semantic": 1, "boxes.car": 1, "boxes.tram": count}
        (reason,) = read_config(recipe, environment={}).misfits(parse_slices({}), counts)
        assert "tram" in reason


def test_gates_judge_a_training_but_early_stopping_is_part_of_what_it_is(recipe):
    plain = read_config(recipe, environment={})
    judged = read_config(recipe, ["guards.drift.abort=9", "guards.dry_run.enabled=false"], environment={})
    shorter = read_config(recipe, ["guards.early_stopping.patience=2"], environment={})
    assert judged.digest == plain.digest
    assert shorter.digest != plain.digest


def test_early_stopping_watches_a_metric_of_one_of_the_tasks(recipe):
    (problem,) = problems(recipe, "guards.early_stopping.monitor=lanes/F1")
    assert "guards.early_stopping.monitor 'lanes/F1' is not of one of the tasks" in problem.expected


def test_what_starts_a_training_is_no_part_of_what_it_computes(recipe):
    plain = read_config(recipe, environment={})
    automatic = read_config(recipe, ["automation={on_delivery: true, on_weak_slice: train}"], environment={})
    assert automatic.digest == plain.digest
    assert plain.automation.on_delivery is False


def test_a_mined_slice_is_judged_by_the_releases_targets_unless_it_has_its_own(recipe):
    release = "release.targets={segmentation/mIoU: 0.5}"
    own = "automation.slice_targets={segmentation/mIoU: 0.3}"
    assert read_config(recipe, [release], environment={}).slice_targets == {"segmentation/mIoU": 0.5}
    assert read_config(recipe, [release, own], environment={}).slice_targets == {"segmentation/mIoU": 0.3}
