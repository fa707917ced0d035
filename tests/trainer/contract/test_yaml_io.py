"""YAML: safe, numbers as people write them, and every failure a report."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.errors import ContractError
from trainer.contract.slices import parse_slices
from trainer.contract.yaml_io import dump_yaml, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("1E5", 1e5), ("-1.5e+3", -1500.0), ("3", 3), ("-.inf", -math.inf), (".5", 0.5), ("1_000", 1000)],
)
def test_numbers_are_numbers(text, value):
    parsed = parse_yaml(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["1e", "e5", "v1.0", "1.2.3", "1e-5x", ".", "-", "2026-01-05", "2026-13-45"])
def test_what_only_looks_like_a_number_or_a_date_stays_text(text):
    assert parse_yaml(f"[{text}]" if text != "-" else "['-']") == [text]


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3", "x:\n  - {a: 1, a: 2}"])
def test_a_key_given_twice_is_an_error_with_its_line(text):
    with pytest.raises(ContractError, match="given twice") as caught:
        parse_yaml(text, "some.yaml")
    assert caught.value.problems[0].file == "some.yaml"
    assert caught.value.problems[0].line == text.count("\n") + 1


def test_merging_and_then_overriding_a_key_is_allowed():
    assert parse_yaml("base: &b {a: 1}\nother: {<<: *b, a: 2}")["other"] == {"a": 2}


def test_python_objects_are_not_made():
    with pytest.raises(ContractError):
        parse_yaml("!!python/object/apply:os.getcwd []")


@pytest.mark.slow
@pytest.mark.parametrize("text", ["0x_", "!!int x", "!!bool x", "!!timestamp x", "? !!set {a}\n: 1", "[" * 3000, "\0"])
def test_what_pyyaml_itself_trips_over_is_a_report(text):
    with pytest.raises(ContractError):
        parse_yaml(text)


@given(text=st.text("ab:{}[]-?!&*#|>'\"%@ \n\t0123456789._eE+x,<~", max_size=40) | st.text(max_size=40))
def test_any_text_is_plain_data_or_a_report(text):
    value, problems = None, []
    try:
        value = parse_yaml(text, "some.yaml")
    except ContractError as error:
        problems = error.problems
    assert is_plain(value)
    assert all(problem.file == "some.yaml" and problem.found for problem in problems)


def is_plain(value):
    if isinstance(value, dict):
        return all(is_plain(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or isinstance(value, str | bool | int | float)


# PyYAML folds some control characters (U+0085, say) into spaces.
texts = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


@given(value=plain)
def test_what_is_dumped_is_read_back(value):
    assert parse_yaml(dump_yaml(value)) == value


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"caf\xe9: 1"])
def test_a_file_that_is_not_utf8_is_a_report(tmp_path, content):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(ContractError, match=r"a\.yaml"):
        read_yaml(tmp_path / "a.yaml")


def test_a_file_that_is_not_there_is_a_report(tmp_path):
    with pytest.raises(ContractError, match=r"none\.yaml"):
        read_yaml(tmp_path / "none.yaml")


def test_a_report_does_not_write_out_what_a_few_aliases_stand_for():
    """Six levels of nine aliases: 300 bytes of YAML whose whole text is some megabytes; nine would be gigabytes."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 6)]
    with pytest.raises(ContractError) as caught:
        parse_slices(parse_yaml("\n".join(levels)))
    assert {problem.field for problem in caught.value.problems} == {f"a{i}" for i in range(6)}
    assert max(len(problem.found) for problem in caught.value.problems) < 100_000
