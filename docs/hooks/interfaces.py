"""Docstrings of the classes that a new part follows, read from the source: nothing is imported."""

import ast
from collections.abc import Iterator
from pathlib import Path

from texts import from_docstring

SEAMS = {
    "A task": ("trainer/tasks/base.py", "Task"),
    "What metrics are computed from": ("trainer/metrics/statistics.py", "Statistics"),
    "A launcher": ("training_assets/launchers/base.py", "Launcher"),
    "A kind of storage": ("training_assets/stores/objects/base.py", "ObjectStore"),
    "A way onto fast storage": ("training_assets/stores/fast_storage/base.py", "FastStorage"),
    "A registry beside ours": ("training_assets/stores/registries/base.py", "Mirror"),
    "Where events go": ("training_assets/stores/events.py", "Sink"),
    "A search": ("training_assets/sweeps/search/base.py", "Search"),
    "A rule that ends trials": ("training_assets/sweeps/stopping/base.py", "Rule"),
    "A reader of a data set": ("trainer/data/readers/__init__.py", "Reader"),
    "A scorer of files": ("trainer/evaluation/score/__init__.py", "Scorer"),
    "A form of export": ("trainer/export/base.py", "Format"),
}


def described(root: Path) -> str:
    return "\n".join(f"## {title}\n\n{_class(root / file, file, name)}" for title, (file, name) in SEAMS.items())


def _class(path: Path, file: str, name: str) -> str:
    body = ast.parse(path.read_text()).body
    (found,) = [node for node in body if isinstance(node, ast.ClassDef) and node.name == name]
    head = f"`{name}` of `{file}`\n\n{from_docstring(ast.get_docstring(found))}\n"
    return "\n".join([head, *_methods(found)])


def _methods(node: ast.ClassDef) -> Iterator[str]:
    for method in node.body:
        text = ast.get_docstring(method) if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) else None
        if isinstance(method, ast.FunctionDef) and text and not method.name.startswith("_"):
            yield f"```python\n{_signature(method)}\n```\n\n{from_docstring(text)}\n"


def _signature(method: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(method.returns)}" if method.returns else ""
    return f"def {method.name}({ast.unparse(method.args)}){returns}"
