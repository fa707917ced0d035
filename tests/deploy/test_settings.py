"""What profiles take from their environment is what the infrastructure gives to Dagster's processes."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "training_assets" / "profiles"
ROOTS = ROOT / "deploy" / "terraform" / "roots"
FROM_THE_IMAGE = {"TRAINING_ASSETS_TRAINER_IMAGE"}
"""Dagster's image names the trainer's of the same commit (docs/images.md)."""


@pytest.mark.parametrize("backend", ["ecs", "eks", "sagemaker"])
def test_every_variable_that_a_profile_must_have_is_given(backend: str) -> None:
    profile = PROFILES / f"{backend}.yaml"
    if not profile.exists():
        pytest.skip(f"there is no profile {backend}")
    asked = set(re.findall(r"\$\{(TRAINING_ASSETS_[A-Z_]+)\}", profile.read_text()))
    given = {"ecs": "main.tf", "sagemaker": "main.tf", "eks": "outputs.tf"}[backend]
    names = set(re.findall(r"^    (TRAINING_ASSETS_[A-Z_]+) +=", (ROOTS / backend / given).read_text(), re.MULTILINE))
    assert asked - FROM_THE_IMAGE <= names


def test_both_instances_on_ecs_get_a_profile_a_store_and_an_inbox() -> None:
    tasks = (ROOT / "deploy" / "terraform" / "modules" / "dagster" / "tasks.tf").read_text()
    for name in ("PROFILE", "STORE", "INBOX"):
        assert f"TRAINING_ASSETS_{name} " in tasks
