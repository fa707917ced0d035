"""slices.yaml: which rows a predicate chooses, and which files are refused."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.errors import ContractError
from trainer.contract.manifest import Row
from trainer.contract.slices import Slice, Slices, parse_slices, read_slices, value_of

ROW = Row.model_validate(
    {
        "sample_id": "a",
        "source-ref": "a.png",
        "sha256": "0" * 64,
        "captured_at": "2026-01-07T12:00:00Z",
        "licence": "x",
        "origin": "x",
        "attributes": {"weather": "rain", "speed": 12.5, "wet": True, "lanes": 1},
        "boxes": [
            {"category": "car", "bbox": [0, 0, 1, 1]},
            {"category": "car", "bbox": [0, 0, 1, 1]},
            {"category": "person", "bbox": [0, 0, 1, 1]},
            {"category": "person", "bbox": [0, 0, 1, 1], "ignore": True},
        ],
        "semantic-ref": "m.png",
    }
)


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ({}, True),
        ({"attributes.weather": "rain"}, True),
        ({"attributes.weather": "fog"}, False),
        ({"attributes.weather": ["fog", "rain"]}, True),
        ({"attributes.weather": {"not": "rain"}}, False),
        ({"attributes.weather": {"not": ["fog", "snow"]}}, True),
        ({"attributes.missing": {"not": "x"}}, True),
        ({"attributes.missing": "x"}, False),
        ({"attributes.speed": {"min": 12.5}}, True),
        ({"attributes.speed": {"max": 12.4}}, False),
        ({"attributes.weather": {"min": 0}}, False),
        ({"attributes.wet": True}, True),
        ({"attributes.wet": 1}, False),
        ({"attributes.lanes": True}, False),
        ({"attributes.lanes": 1}, True),
        ({"attributes.wet": {"min": 0}}, False),
        ({"labels.boxes": {"min": 3, "max": 3}}, True),
        ({"labels.boxes.car": 2}, True),
        ({"labels.boxes.person": {"min": 2}}, False),
        ({"labels.boxes.bicycle": 0}, True),
        ({"labels.semantic": 1}, True),
        ({"labels.lanes": 0}, False),
        ({"attributes.weather": "rain", "labels.boxes.car": {"min": 5}}, False),
    ],
)
def test_a_predicate_chooses_rows(where, holds):
    assert Slice.model_validate({"name": "s", "where": where}).holds(ROW) is holds


def test_a_label_that_was_not_annotated_has_no_count():
    assert value_of(ROW, "labels.tracks") is None


@pytest.mark.parametrize("field", ["weather", "attributes.", "labels.", "labels.masks", "labels.lanes.solid", "x.y"])
def test_an_unknown_field_is_refused_with_the_fields_there_are(field):
    with pytest.raises(ContractError, match=r"attributes\.<name>"):
        parse_slices({"slices": [{"name": "s", "where": {field: 1}}]})


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"slices": [{"where": {}}]}, "slices.0.name"),
        ({"slices": [{"name": "a", "tagets": {}}]}, "slices.0.tagets"),
        ({"slices": [{"name": "a/b"}]}, "slices.0.name"),
        ({"slices": [{"name": "all"}, {"name": "all", "where": {"attributes.a": 1}}]}, "slices.1"),
        ({"slices": [{"name": "a", "targets": {"x/y": "high"}}]}, "slices.0.targets.x/y"),
        ({"slices": [{"name": "a", "targets": {"x/y": float("nan")}}]}, "slices.0.targets.x/y"),
        ({"slices": [{"name": "a", "allowed_regression": -1}]}, "slices.0.allowed_regression"),
        ({"slices": [{"name": "a"}, {"name": "a"}]}, "slices"),
        ({"labels": {"semantic": {"classes": []}}}, "labels.semantic.classes"),
        ({"labels": {"semantic": {"classes": ["a"], "ignore_id": 256}}}, "labels.semantic.ignore_id"),
    ],
)
def test_what_is_wrong_is_named(value, field):
    with pytest.raises(ContractError) as caught:
        parse_slices(value)
    assert [problem.field for problem in caught.value.problems] == [field]


@pytest.mark.parametrize("condition", [{}, {"min": None}, {"minimum": 3}, {"min": float("inf")}])
def test_a_range_without_a_usable_bound_is_refused(condition):
    with pytest.raises(ContractError, match=r"labels\.boxes"):
        parse_slices({"slices": [{"name": "a", "where": {"labels.boxes": condition}}]})


@pytest.mark.parametrize("value", [None, [], "slices", 3])
def test_what_is_no_mapping_is_refused(value):
    with pytest.raises(ContractError, match="mapping"):
        parse_slices(value)


def test_a_file_names_itself_in_its_problems(tmp_path):
    path = tmp_path / "slices.yaml"
    path.write_text("slices:\n  - name: night\n    where: {attributes.time_of_day: night\n")
    with pytest.raises(ContractError) as caught:
        read_slices(path)
    assert caught.value.problems[0].file == str(path)
    assert caught.value.problems[0].line is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["labels", "slices", "name", "where", "min", "not", "attributes.a", "semantic"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(value=json_values)
def test_any_value_is_slices_or_a_report(value):
    with suppress(ContractError):
        assert isinstance(parse_slices(value), Slices)


def test_a_slice_of_a_category_that_is_not_declared_is_refused():
    value = {"slices": [{"name": "a", "where": {"labels.boxes.pedestrain": {"min": 1}}}]}
    assert parse_slices(value).slices  # nothing is declared, nothing is checked
    with pytest.raises(ContractError, match="pedestrain"):
        parse_slices(value | {"labels": {"boxes": ["pedestrian"]}})


@pytest.mark.parametrize("labels", [{"boxes": ["a", "a"]}, {"semantic": {"classes": ["a", "b", "a"]}}])
def test_a_class_declared_twice_is_refused(labels):
    with pytest.raises(ContractError, match="more than once"):
        parse_slices({"labels": labels})
