"""Profiles: defaults, expansion, and what is refused."""

import shutil
from pathlib import Path

import pytest

from trainer.contract.errors import ContractError
from training_assets.profiles import REPOSITORY, load_profile, parse_profile
from training_assets.recipes import load_recipes

GOOD = {"inbox": "d", "store": "s", "recipes": "r", "launcher": "local", "windows": {"start": "2024-01-01"}}
DIGEST = "sha256:" + "0" * 64


def test_the_local_profile_lies_under_var_of_the_repository() -> None:
    profile = load_profile("local", {})
    assert (profile.inbox, profile.store) == (str(REPOSITORY / "var/inbox"), REPOSITORY / "var/store")
    assert profile.recipes == REPOSITORY / "recipes"


def test_the_environment_moves_the_store_and_the_inbox() -> None:
    environment = {"TRAINING_ASSETS_STORE": "/elsewhere/store", "TRAINING_ASSETS_INBOX": "relative/inbox"}
    profile = load_profile("local", environment)
    assert profile.store == Path("/elsewhere/store")
    assert profile.inbox == str(REPOSITORY / "relative/inbox")
    assert load_profile("local", {"TRAINING_ASSETS_INBOX": "s3://bucket/in"}).inbox == "s3://bucket/in"


def test_a_value_from_the_environment_stays_text_whatever_it_holds() -> None:
    profile = load_profile("local", {"TRAINING_ASSETS_STORE": "/a: [b]\nlauncher: other"})
    assert str(profile.store) == "/a: [b]\nlauncher: other"
    assert profile.launcher == "local"


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ContractError, match=r"found 'nope', expected one of .*local"):
        load_profile(None, {"TRAINING_ASSETS_PROFILE": "nope"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"store": "${AWS_SECRET_ACCESS_KEY}"}, "a variable whose name begins with TRAINING_ASSETS_"),
        ({"store": "${TRAINING_ASSETS_UNSET}"}, "which is not set"),
        ({"stor": "x"}, "field 'stor': found 'x', expected no field of this name"),
        ({"windows": {"start": "2024-01-02"}}, "not the first day of a weekly window"),
        ({"launcher": None}, "field 'launcher'"),
        ({"events": {"event_bus": ""}}, "events.event_bus"),
        ({"events": {"event_bus": "models", "source": "with spaces"}}, "events.source"),
        ({"registries": [{"sagemaker": {}, "wandb": {}}]}, "exactly one of sagemaker and wandb"),
        ({"registries": [{}]}, "exactly one of sagemaker and wandb"),
        ({"registries": [{"sagemaker": {"group_prefix": "under_score"}}]}, "group_prefix"),
        ({"launcher": "ecs", "image": {"trainer": "trainer:latest"}}, "field 'image.trainer': found 'trainer:latest'"),
        ({"launcher": "ecs", "image": {"trainer": f"trainer:1@{DIGEST}"}}, "image.trainer"),
        ({"launcher": "ecs", "image": {"trainer": f"https://host/trainer@{DIGEST}"}}, "image.trainer"),
        ({"image": {"trainer": f"host/trainer@{DIGEST}"}}, "no image with launcher local"),
    ],
)
def test_a_bad_profile_is_refused_by_field(change: dict[str, object], message: str) -> None:
    environment = {"AWS_SECRET_ACCESS_KEY": "hush"}
    with pytest.raises(ContractError, match=message) as refusal:
        parse_profile({**GOOD, **change}, Path("bad.yaml"), environment)
    assert "hush" not in str(refusal.value)


def test_a_profiles_launch_is_checked_as_a_recipes() -> None:
    profile = parse_profile({**GOOD, "launch": {"devices": [0, 2], "num_nodes": 4}}, Path("p.yaml"), {})
    assert profile.launch == {"devices": [0, 2], "num_nodes": 4}
    with pytest.raises(ContractError, match="num_nodes"):
        parse_profile({**GOOD, "launch": {"num_nodes": 0}}, Path("p.yaml"), {})


def test_the_image_comes_by_digest_and_may_come_from_the_environment() -> None:
    ecr = f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/training-assets/trainer@{DIGEST}"
    named = {**GOOD, "launcher": "ecs", "image": {"trainer": "${TRAINING_ASSETS_TRAINER_IMAGE}"}}
    profile = parse_profile(named, Path("p.yaml"), {"TRAINING_ASSETS_TRAINER_IMAGE": ecr})
    assert profile.image is not None
    assert profile.image.trainer == ecr


def test_launch_comes_from_the_recipe_then_the_profile_then_the_environment(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(recipe, tmp_path)
    assert load_recipes(tmp_path)[0]["tiny"].launch.devices == 2
    decided = {"devices": [0, 2], "threads": 3}
    assert load_recipes(tmp_path, decided)[0]["tiny"].launch.devices == (0, 2)
    monkeypatch.setenv("TRAIN__LAUNCH__DEVICES", "4")
    launch = load_recipes(tmp_path, decided)[0]["tiny"].launch
    assert (launch.devices, launch.threads) == (4, 3)
