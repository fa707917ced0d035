"""YAML as people write it: safe, ``1e-5`` is a number, a date is text, a key given twice is an error."""

import re
from pathlib import Path
from typing import Any

import yaml

from trainer.contract.errors import ContractError, Problem

# YAML 1.2's float: PyYAML follows 1.1, where 1e-5 lacks the dot and stays a string.
FLOAT = re.compile(
    r"^[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][-+]?\d+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2 floats and without silent overwriting of repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict):
                continue
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("float", "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))


class Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which quotes what our loader would take for a number."""


Dumper.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789."))


def parse_yaml(text: str, name: str = "<text>") -> Any:
    """The value of ``text``.

    Raises:
        ContractError: not YAML; says the line.
    """
    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = Problem(
            file=name,
            line=mark.line + 1 if mark else None,
            found=str(getattr(error, "problem", None) or error),
            expected="valid YAML",
        )
        raise ContractError(f"{name} cannot be read", [problem]) from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # PyYAML's constructors let these through: `0x_`, `!!int x`, a set as a key, ten thousand brackets.
        raise ContractError(f"{name} cannot be read", [Problem(name, str(error), "valid YAML")]) from None


def read_yaml(path: Path) -> Any:
    """The value of the file at ``path``.

    Raises:
        ContractError: no such file, not UTF-8, or not YAML; says the line where there is one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem(str(path), str(error), "a YAML file in UTF-8")
        raise ContractError(f"{path} cannot be read", [problem]) from None
    return parse_yaml(text, str(path))


def dump_yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)
