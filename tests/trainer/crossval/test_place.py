"""A name is given once, and says where everything lies."""

import argparse
import re

import pytest

from trainer.contract.cross_validation import PLAN_FILE
from trainer.contract.errors import ContractError
from trainer.crossval.place import place_of, place_of_run


def asked(root, **given):
    nothing = {"name": None, "tune": None, "index": None, "resume": False, "only": None}
    return argparse.Namespace(artifact_dir=root, **{**nothing, **given})


def planned(root, **given):
    place = place_of(asked(root, **given))
    place.mkdir(parents=True)
    (place / PLAN_FILE).write_text("{}")
    return place


def test_a_cross_validation_lies_below_its_kind_or_its_tune(tmp_path):
    assert place_of(asked(tmp_path, name="first")) == tmp_path / "_cross_validations" / "first"
    assert place_of(asked(tmp_path, tune="night", index=3)) == tmp_path / "night" / "night-cv3"


def test_without_a_name_a_readable_one_is_drawn(tmp_path):
    place = place_of(asked(tmp_path))
    assert place.parent == tmp_path / "_cross_validations"
    assert re.fullmatch(r"[a-z]+-[a-z]+-\d{3}", place.name)


def test_a_name_given_twice_is_refused_unless_it_is_to_go_on(tmp_path):
    place = planned(tmp_path, name="first")
    with pytest.raises(ContractError, match="--resume"):
        place_of(asked(tmp_path, name="first"))
    assert place_of(asked(tmp_path, name="first", resume=True)) == place
    assert place_of(asked(tmp_path, name="first", only=["f0s42"])) == place
    planned(tmp_path, tune="night", index=0)
    with pytest.raises(ContractError, match="night-cv0"):
        place_of(asked(tmp_path, tune="night", index=0))


@pytest.mark.parametrize(
    "given",
    [
        {"name": "a/b"}, {"name": "_runs"}, {"tune": "..", "index": 1}, {"tune": "night"}, {"index": 1},
        {"name": "x", "tune": "night", "index": 1}, {"resume": True}, {"only": ["f0s42"]},
    ],
)  # fmt: skip
def test_what_names_nothing_is_refused(tmp_path, given):
    with pytest.raises(ContractError, match="no usable name"):
        place_of(asked(tmp_path, **given))


def test_a_run_on_its_own_has_its_name_once_too(tmp_path):
    place = place_of_run(tmp_path, "first", "ab12cd34")
    assert place == tmp_path / "_runs" / "first-ab12cd34"
    place.mkdir(parents=True)
    assert place_of_run(tmp_path, "first", "ab12cd34") == place
    with pytest.raises(ContractError, match="first-ab12cd34"):
        place_of_run(tmp_path, "first", None)
    drawn = place_of_run(tmp_path, None, None)
    assert re.fullmatch(r"[a-z]+-[a-z]+-\d{3}-[a-z0-9]{8}", drawn.name)
