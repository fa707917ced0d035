"""Names and places."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.names import (
    LONGEST_NAME,
    RUN_ID,
    SEMVER,
    cross_validation_directory,
    cross_validation_name,
    flaw_of_name,
    model_directory,
    new_run_id,
    next_version,
    random_name,
    run_directory,
    run_name,
)


def test_run_ids_are_eight_characters_and_differ():
    ids = {new_run_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(RUN_ID.fullmatch(one) for one in ids)


def test_places_are_those_of_the_design():
    assert str(run_directory("scenes", "ab12cd34")) == "_runs/scenes-ab12cd34"
    assert str(model_directory("driving", "1.2.0")) == "models/driving/1.2.0"


def test_a_cross_validation_is_named_after_its_tune_and_a_run_after_its_fold_and_seed():
    cv_name = cross_validation_name("nightly", 3)
    assert cv_name == "nightly-cv3"
    assert run_name(cv_name, fold=1, seed=42) == "nightly-cv3-run-f1s42"


def test_runs_lie_below_what_they_belong_to():
    assert str(run_directory("t-cv0-run-f1s42", "ab12cd34", "t-cv0", "t")) == "t/t-cv0/t-cv0-run-f1s42-ab12cd34"
    assert str(run_directory("c-run-f1s42", "ab12cd34", "c")) == "_cross_validations/c/c-run-f1s42-ab12cd34"
    assert str(cross_validation_directory("c")) == "_cross_validations/c"
    assert str(cross_validation_directory("t-cv0", "t")) == "t/t-cv0"


def test_random_names_are_plain_and_differ_and_avoid_those_that_are_taken():
    names = {random_name() for _ in range(100)}
    assert len(names) > 95
    assert all(flaw_of_name(name) is None and len(name) < LONGEST_NAME // 2 for name in names)
    assert all(len(name.split("-")) == 3 for name in names)
    seen = []
    assert random_name(lambda name: not seen.append(name) and len(seen) < 3) == seen[2]


def test_the_first_version_is_one():
    assert next_version([]) == "1.0.0"


def test_versions_are_compared_as_numbers():
    assert next_version(["1.9.0", "1.10.0", "1.2.0"]) == "1.11.0"


@given(versions=st.lists(st.tuples(*[st.integers(0, 99)] * 3), min_size=1))
def test_the_next_version_is_newer_than_all(versions):
    following = next_version([".".join(map(str, version)) for version in versions])
    assert SEMVER.fullmatch(following)
    assert tuple(map(int, following.split("."))) > max(versions)


@pytest.mark.parametrize("text", ["1.0", "01.0.0", "1.0.0-rc1", "v1.0.0"])
def test_other_forms_are_no_versions(text):
    assert SEMVER.fullmatch(text) is None


@pytest.mark.parametrize("name", ["fog", "Fog-at_night.2", "0"])
def test_a_plain_name_has_no_flaw(name: str) -> None:
    assert flaw_of_name(name) is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("", "nothing"),
        ("a\nb", r"the character '\n'"),
        ("a|b", "the character '|'"),
        ("..", "'..'"),
        ("a..b", "'..'"),
        (".hidden", "'.' at the beginning"),
        ("-option", "'-' at the beginning"),
        ("a/b", "the character '/'"),
        ("x" * 300, "300 characters"),
        ("１", "the character"),
    ],
)
def test_a_flaw_in_a_name_says_what_was_found(name: str, found: str) -> None:
    assert found in (flaw_of_name(name) or "")
