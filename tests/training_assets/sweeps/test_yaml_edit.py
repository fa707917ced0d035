"""A value is changed and nothing else, whatever else stands in the file."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.contract.errors import ContractError
from trainer.contract.yaml_io import parse_yaml
from training_assets.sweeps.yaml_edit import with_values

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml"))
TEXT = """\
# A recipe.
name: tiny   # the name
data:
  image_size: [64, 96]  # height, width
  augmentation:
    flip: 0.5
    scale:
      - 1.0
      - 1.3

# How it learns.
optim: {lr: 4.0e-3, weight_decay: 0.01}
model: {}
training:
"""


def changed_lines(before: str, after: str) -> list[str]:
    old = before.splitlines()
    return [line for line in after.splitlines() if line not in old]


@pytest.mark.parametrize(
    ("field", "value", "lines"),
    [
        ("optim.lr", 1e-5, ["optim: {lr: 1.0e-05, weight_decay: 0.01}"]),
        ("optim.schedule", "poly", ["optim: {lr: 4.0e-3, weight_decay: 0.01, schedule: poly}"]),
        ("data.augmentation.flip", 0.25, ["    flip: 0.25"]),
        ("data.augmentation.scale", [1.0, 1.5], ["      - 1.5"]),
        ("data.image_size", [64, 128], ["  image_size: [64, 128]  # height, width"]),
        ("data.augmentation.contrast", 0.3, ["    contrast: 0.3"]),
        ("data.batch_size", 8, ["  batch_size: 8"]),
        ("balancing.method", "dwa", ["balancing: {method: dwa}"]),
        ("model.width", 24, ["model: {width: 24}"]),
        ("training.epochs", 3, ["training: {epochs: 3}"]),
        ("name", "a: b, {c}", ["name: 'a: b, {c}'   # the name"]),
    ],
)
def test_only_the_line_of_the_field_changes(field: str, value: Any, lines: list[str]) -> None:
    after = with_values(TEXT, {field: value}, "tiny.yaml")
    assert changed_lines(TEXT, after) == lines
    kept = [line for line in TEXT.splitlines() if line in after.splitlines()]
    assert len(kept) >= len(TEXT.splitlines()) - 1


def test_a_new_field_of_a_block_stands_in_that_block() -> None:
    after = with_values(TEXT, {"data.augmentation.contrast": 0.3}, "tiny.yaml").splitlines()
    assert after.index("    contrast: 0.3") == after.index("      - 1.3") + 1


@pytest.mark.parametrize("text", ["a:\n- 0\n- 1\nb: 2\n", "a:\n  - 0\nb: 2\n"])
def test_a_block_list_is_replaced_wherever_its_dashes_stand(text: str) -> None:
    assert parse_yaml(with_values(text, {"a": False}, "x")) == {"a": False, "b": 2}


def test_the_same_value_written_otherwise_is_left_as_it_is() -> None:
    assert with_values(TEXT, {"optim.lr": 0.004, "data.augmentation.scale": [1.0, 1.3]}, "tiny.yaml") == TEXT


def test_line_breaks_of_another_system_and_a_missing_last_one_are_kept() -> None:
    assert with_values("a: 1\r\nb: 2", {"b": 3, "c.d": 4}, "x") == "a: 1\r\nb: 3\r\nc: {d: 4}\r\n"


@pytest.mark.parametrize(
    "text",
    ["base: &b {lr: 1}\noptim: *b\n", "x: &x 1\noptim: {lr: *x}\n", "optim: 3\n", "optim: [1]\n", "# nothing\n"],
)
def test_what_cannot_be_changed_alone_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match="cannot be changed in place"):
        with_values(text, {"optim.lr": 2}, "odd.yaml")


def test_a_merged_field_is_set_beside_the_merge() -> None:
    text = "base: &b {lr: 1, wd: 2}\noptim:\n  <<: *b\n"
    assert with_values(text, {"optim.lr": 3}, "x") == text + "  lr: 3\n"
    flow = "base: &b {lr: 1, wd: 2}\noptim: {<<: *b}  # as usual\n"
    assert with_values(flow, {"optim.lr": 3}, "x") == flow.replace("*b}", "*b, lr: 3}")


PRINTABLE = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="\ufeff\x85")
VALUES = st.one_of(
    st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False, allow_infinity=False), st.none(),
    st.text(PRINTABLE, max_size=8),
    st.lists(st.integers(0, 9) | st.sampled_from(["a", "1e-5", "~", "a, b"]), max_size=3),
)  # fmt: skip
KEYS = st.sampled_from(["a", "b", "c"])
TREES = st.recursive(VALUES, lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=8)


def _set(tree: Any, path: list[str], value: Any) -> bool:
    for part in path[:-1]:
        if tree.get(part) is None:
            tree[part] = {}
        tree = tree[part]
        if not isinstance(tree, dict):
            return False
    tree[path[-1]] = value
    return True


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(KEYS, TREES, min_size=1),
    st.lists(KEYS, min_size=1, max_size=3),
    VALUES,
    st.sampled_from([None, True, False]),
)
def test_any_field_of_any_file_can_be_set(tree: Any, path: list[str], value: Any, flow: bool | None) -> None:
    from trainer.contract.yaml_io import Dumper

    text = yaml.dump(tree, Dumper=Dumper, default_flow_style=flow, allow_unicode=True)
    expected = parse_yaml(text)
    if not _set(expected, path, value):
        with pytest.raises(ContractError):
            with_values(text, {".".join(path): value}, "x")
        return
    assert parse_yaml(with_values(text, {".".join(path): value}, "x")) == expected


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_real_recipes_change_in_one_line(path: Path) -> None:
    text = path.read_text()
    after = with_values(text, {"optim.lr": 0.00123}, str(path))
    assert len(changed_lines(text, after)) == 1
    assert "lr: 0.00123" in after
