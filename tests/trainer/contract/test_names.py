"""Names and places."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.names import RUN_ID, SEMVER, model_directory, new_run_id, next_version, run_directory


def test_run_ids_are_eight_characters_and_differ():
    ids = {new_run_id() for _ in range(200)}
    assert len(ids) == 200
    assert all(RUN_ID.fullmatch(one) for one in ids)


def test_places_are_those_of_the_design():
    assert str(run_directory("scenes", "ab12cd34")) == "_runs/scenes-ab12cd34"
    assert str(model_directory("driving", "1.2.0")) == "models/driving/1.2.0"


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
