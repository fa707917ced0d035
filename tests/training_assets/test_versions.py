"""What an asset's code version is the digest of: all that decides its content."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from training_assets.assets.evaluation import EVALUATION_SOURCES, EXPORT_SOURCES
from training_assets.training_run import TRAINING_SOURCES

ROOT = Path(__file__).parents[2]
ELSEWHERE = ("trainer/process.py", "trainer/reporting.py", "trainer/terminal/", "trainer/tracking.py")
"""Say how a command lives and talks, not what it computes."""


def imported(path: Path) -> Iterator[Path]:
    """The trainer's files that ``path`` imports, at its top level or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trainer"):
            names = (node.module, *(f"{node.module}.{one.name}" for one in node.names))
            places = [ROOT / str(name).replace(".", "/") for name in names]
            files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
            yield from filter(Path.is_file, files)


def reached(begin: Path) -> set[str]:
    found: set[Path] = set()
    left = [begin]
    while left:
        if (path := left.pop()) not in found:
            found.add(path)
            left += imported(path)
    files = {path.relative_to(ROOT).as_posix() for path in found}
    return {file for file in files if not file.startswith(ELSEWHERE)}


@pytest.mark.parametrize(
    ("begin", "sources"),
    [
        ("trainer/engine/run.py", TRAINING_SOURCES),
        ("trainer/evaluation/report.py", EVALUATION_SOURCES),
        ("trainer/export/export.py", EXPORT_SOURCES),
    ],
)
def test_all_that_a_command_imports_is_among_its_assets_sources(begin: str, sources: tuple[str, ...]) -> None:
    files = reached(ROOT / begin)
    assert len(files) > 20
    assert [file for file in sorted(files) if not any(Path(file).is_relative_to(one) for one in sources)] == []


def test_every_source_is_there() -> None:
    assert [one for one in {*TRAINING_SOURCES, *EXPORT_SOURCES} if not (ROOT / one).exists()] == []
