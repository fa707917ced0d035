"""Change values in a YAML file and nothing else of it: comments, order, quotes and line breaks stay as they are."""

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from trainer.contract.errors import ContractError, Problem
from trainer.contract.yaml_io import Dumper, Loader, parse_yaml

SHARED = "fields with values of their own: no alias or anchor"
ALIAS = re.compile(r"[^*]*\*[^\s,}\]]*")


def with_values(text: str, values: Mapping[str, Any], name: str) -> str:
    """``text`` (the file called ``name``) with the fields of those dotted names set, added where they are not there.

    Raises:
        ContractError: it cannot be done in place, because a field shares its value with another one, say.
    """
    changed = text
    for field, value in values.items():
        changed = _with_value(changed, field.split("."), value, name)
    if not _is(changed, _expected(text, values, name)):
        raise _refused(name, f"a change of {', '.join(values)} that changes something else too", SHARED)
    return changed


def _is(text: str, value: Any) -> bool:
    try:
        return bool(parse_yaml(text) == value)
    except ContractError:  # an anchor that others refer to is gone
        return False


def _refused(name: str, found: str, expected: str) -> ContractError:
    return ContractError(f"{name} cannot be changed in place", [Problem(name, found, expected)], "Edit it by hand.")


def _expected(text: str, values: Mapping[str, Any], name: str) -> Any:
    expected = copy.deepcopy(parse_yaml(text, name))
    for field, value in values.items():
        *path, last = field.split(".")
        place = expected
        for part in path:
            place[part] = dict(place.get(part) or {})  # a copy: an alias is the same mapping in two places
            place = place[part]
        place[last] = value
    return expected


def _with_value(text: str, path: list[str], value: Any, name: str) -> str:
    node = yaml.compose(text, Loader=Loader)
    if node is None:
        raise _refused(name, "an empty file", "a mapping to go into")
    while path:
        if not isinstance(node, yaml.MappingNode):
            if node.tag.endswith(":null"):
                return _replaced(text, node, _nested(path, value))
            raise _refused(name, f"a value where '{path[0]}' is to be", "a mapping to go into")
        entry = next((entry for entry in node.value if entry[0].value == path[0]), None)
        if entry is None:
            return _added(text, node, path[0], _nested(path[1:], value))
        if _is_alias(*entry):
            raise _refused(name, f"an alias as the value of '{path[0]}'", SHARED)
        node, path = entry[1], path[1:]
    return _set(text, node, value)


def _nested(path: list[str], value: Any) -> Any:
    for part in reversed(path):
        value = {part: value}
    return value


def _set(text: str, node: yaml.Node, value: Any) -> str:
    """Elements of a list of the same length one by one, the last first: what stands before keeps its place."""
    elements = node.value if isinstance(node, yaml.SequenceNode) else []
    if not isinstance(value, list | tuple) or not elements or len(elements) != len(value):
        return _replaced(text, node, value)
    for element, new in reversed(list(zip(elements, value, strict=True))):
        text = _set(text, element, new)
    return text


def _replaced(text: str, node: yaml.Node, value: Any) -> str:
    """Nothing is written where the same value stands: 3.0e-3 is not made 0.003."""
    start, end = node.start_mark.index, _end(node)
    written = text[start:end]
    plain = isinstance(node, yaml.ScalarNode) and written and "\n" not in written
    if plain and _same(parse_yaml(written), value):
        return text
    # A block list may stand in its key's column, where no other value may.
    space = " " if not written or _is_block(node) else ""
    return text[:start] + space + _flow(value) + text[end:]


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _added(text: str, mapping: yaml.MappingNode, key: str, value: Any) -> str:
    """As the last field of ``mapping``, within its braces or on a line of its own."""
    entry = f"{_flow(key)}: {_flow(value)}"
    if mapping.flow_style:
        place = _end_of_entry(text, *mapping.value[-1]) if mapping.value else mapping.end_mark.index - 1
        return text[:place] + (", " if mapping.value else "") + entry + text[place:]
    break_ = "\r\n" if "\r\n" in text else "\n"
    indent: str = " " * mapping.value[0][0].start_mark.column
    place = _next_line(text, _end_of_entry(text, *mapping.value[-1]))
    before = "" if text[:place].endswith("\n") else break_
    return text[:place] + before + indent + entry + break_ + text[place:]


def _next_line(text: str, index: int) -> int:
    if text[:index].endswith("\n"):
        return index
    found = text.find("\n", index)
    return len(text) if found < 0 else found + 1


def _end_of_entry(text: str, key: yaml.Node, value: yaml.Node) -> int:
    if not _is_alias(key, value):
        return _end(value)
    return int(key.end_mark.index) + len(ALIAS.match(text[key.end_mark.index :])[0])  # type: ignore[index]


def _is_alias(key: yaml.Node, value: yaml.Node) -> bool:
    """PyYAML puts the value's own node in the place of its alias: it stands before."""
    return bool(value.start_mark.index < key.end_mark.index)


def _end(node: yaml.Node) -> int:
    """Behind the node's last character; PyYAML's mark of a block collection is behind what follows it too."""
    if _is_block(node):
        last = node.value[-1]
        return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
    return int(node.end_mark.index)


def _is_block(node: yaml.Node) -> bool:
    return isinstance(node, yaml.CollectionNode) and not node.flow_style and bool(node.value)


def _flow(value: Any) -> str:
    """``value`` on one line, as it may stand within braces."""
    plain = list(value) if isinstance(value, tuple) else value
    text: str = yaml.dump([plain], Dumper=Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True,
                          width=math.inf)  # fmt: skip
    return text.strip()[1:-1]
