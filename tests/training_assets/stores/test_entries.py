"""References, versions and aliases: every usable name round-trips, and no name leads out of the registry."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.errors import ContractError
from training_assets.stores.entries import ALIAS, check_alias, check_ref, is_version, parse_reference
from training_assets.stores.objects.base import checked_name
from training_assets.stores.registry import Registry

ROOT = Path("store")
part = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,10}", fullmatch=True)
aliases = st.lists(part, min_size=1, max_size=4).map("/".join)
numbers = st.integers(0, 10**6)
versions = st.tuples(numbers, numbers, numbers).map(lambda parts: ".".join(map(str, parts)))
projects = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)


@given(projects, st.one_of(aliases, versions))
def test_every_usable_reference_round_trips(project: str, ref: str) -> None:
    reference = parse_reference(f"{project}@{ref}")
    assert (reference.project, reference.ref) == (project, ref)
    assert str(reference) == f"{project}@{ref}"


@given(aliases)
def test_no_alias_is_taken_for_a_version(alias: str) -> None:
    check_alias(alias)
    assert not is_version(alias)


@given(versions)
def test_no_version_is_taken_for_an_alias(version: str) -> None:
    assert is_version(version)
    assert not ALIAS.fullmatch(version)


@given(st.text(max_size=40))
def test_any_text_is_refused_with_a_report_or_stays_inside(text: str) -> None:
    registry = Registry(ROOT)
    try:
        name = registry._alias("scenes", text)
    except ContractError:
        return
    assert re.fullmatch(r"[a-z0-9_/-]+", text)
    assert name == f"registry/scenes/aliases/{text}"
    assert checked_name(name) == name


@pytest.mark.parametrize(
    "ref", ["1.0", "v1.0.0", "01.0.0", "1.0.0\n", "../x", "a//b", "/a", "a/", "A", "", "a.b", "1" * 5000 + ".0.0"]
)
def test_what_is_neither_version_nor_alias_is_refused(ref: str) -> None:
    with pytest.raises(ContractError):
        check_ref(ref)


@pytest.mark.parametrize("text", ["scenes", "scenes:1.0.0", "@1.0.0", "Scenes@1.0.0", "../x@1.0.0", "scenes@"])
def test_a_reference_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ContractError):
        parse_reference(text)
