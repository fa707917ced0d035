"""Pydantic models as tables: what a file may hold, field by field."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from texts import from_docstring, table

Schema = Mapping[str, Any]
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
NAMES = {"integer": "whole number", "boolean": "`true` or `false`", "string": "text", "null": "`null`"}


def described(model: type[BaseModel], level: int = 2) -> str:
    """A section for ``model`` and one for each model within it, in the order in which they are met."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    known = {name: _inlined(one, definitions) for name, one in {model.__name__: schema, **definitions}.items()}
    names = list(dict.fromkeys(_met(model.__name__, known)))
    return "\n".join(
        _section(name, known[name], level + (name != model.__name__)) for name in names if _has(known[name])
    )


def _inlined(value: Any, definitions: Mapping[str, Schema]) -> Any:
    """``value`` with what has no fields of its own (an enumeration, any JSON) in the place where it is referred to."""
    if isinstance(value, list):
        return [_inlined(inner, definitions) for inner in value]
    if not isinstance(value, dict):
        return value
    referred = definitions.get(str(value.get("$ref")).rpartition("/")[2], {"properties": {}})
    if not _has(referred):
        return {**referred, **{key: inner for key, inner in value.items() if key != "$ref"}}
    return {key: _inlined(inner, definitions) for key, inner in value.items()}


def _has(schema: Schema) -> bool:
    return "properties" in schema


def _met(name: str, known: Mapping[str, Schema], seen: set[str] | None = None) -> Iterator[str]:
    seen = set() if seen is None else seen
    if name in seen or name not in known:
        return
    seen.add(name)
    yield name
    for inner in _references(known[name].get("properties", {})):
        yield from _met(inner, known, seen)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].rpartition("/")[2]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _section(name: str, schema: Schema, level: int) -> str:
    required = schema.get("required", [])
    rows = [
        (f"`{field}`", _kind(value), _default(value, field in required), from_docstring(value.get("description")))
        for field, value in schema["properties"].items()
    ]
    heading = f"{'#' * level} {name}"
    return (
        f"{heading}\n\n{from_docstring(schema.get('description'))}\n\n{table(('field', 'value', 'default', ''), rows)}"
    )


def _default(schema: Schema, required: bool) -> str:
    if required:
        return "required"
    default = schema.get("default")
    if isinstance(default, dict) and default:
        return "its own"
    return f"`{json.dumps(default, ensure_ascii=False)}`"


def _kind(schema: Schema) -> str:
    """What a value may be, in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_kind(one) for one in schema[several]))
    return _plain(schema)


def _plain(schema: Schema) -> str:
    kind = schema.get("type", "anything")
    if kind == "array":
        return _list(schema)
    if kind == "object":
        inner = schema.get("additionalProperties") or next(iter(schema.get("patternProperties", {}).values()), None)
        return f"mapping to {_kind(inner)}" if isinstance(inner, dict) else "mapping"
    text = {"date": "date", "date-time": "time with zone"}.get(schema.get("format", ""), NAMES.get(kind, kind))
    bounds = [f"{sign} {schema[key]}" for key, sign in BOUNDS.items() if key in schema]
    pattern = [f"like `{schema['pattern']}`"] if "pattern" in schema else []
    return " ".join([text, ", ".join(bounds), *pattern]).strip()


def _list(schema: Schema) -> str:
    if "prefixItems" in schema:
        return f"list: {', '.join(_kind(one) for one in schema['prefixItems'])}"
    return f"list of {_kind(schema.get('items', {}))}"
