"""The two packages keep apart: who may import what."""

import ast
import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DAGSTER_SIDE = sorted((ROOT / "training_assets").rglob("*.py"))
TRAINER_SIDE = sorted((ROOT / "trainer").rglob("*.py"))
CONTRACT = sorted((ROOT / "trainer" / "contract").rglob("*.py"))
TERMINAL = sorted((ROOT / "trainer" / "terminal").rglob("*.py"))
SHARED = ("trainer.contract", "trainer.terminal")
PIPES = ROOT / "trainer" / "reporting.py"
HEAVY = {"torch", "torchmetrics", "evidently", "pandas", "cv2", "plotly", "numpy", "pyarrow", "sklearn", "wandb"}
HEAVY |= {"boto3", "sqlalchemy", "alembic"}  # the last two: of Dagster's storage and daemon


def imports_of(path: Path) -> Iterator[str]:
    """Every module that ``path`` imports, at its top level or inside a function."""
    gc.disable()  # a finalizer of another test's garbage inside the parser makes CPython 3.11 give up (gh-106905)
    tree = ast.parse(path.read_text())
    gc.enable()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_there_is_something_to_look_at() -> None:
    assert len(DAGSTER_SIDE) > 10
    assert len(TRAINER_SIDE) > 10
    assert len(CONTRACT) > 5


@pytest.mark.parametrize("path", DAGSTER_SIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_dagster_side_imports_no_torch_and_of_the_trainer_what_is_shared_only(path: Path) -> None:
    for module in imports_of(path):
        assert module.split(".")[0] not in {"torch", "torchvision", "torchmetrics"}
        assert not module.startswith("trainer") or module.startswith(SHARED)


@pytest.mark.parametrize("path", TRAINER_SIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_trainer_imports_nothing_of_dagster_but_pipes_in_one_file(path: Path) -> None:
    for module in imports_of(path):
        assert module.split(".")[0] not in {"dagster", "boto3", "training_assets"}
        assert module.split(".")[0] != "dagster_pipes" or path == PIPES


@pytest.mark.parametrize("path", CONTRACT, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_contract_imports_neither_torch_nor_dagster_nor_the_rest_of_the_trainer(path: Path) -> None:
    for module in imports_of(path):
        assert module.split(".")[0] not in {"torch", "dagster", "dagster_pipes"}
        assert not module.startswith("trainer") or module.startswith("trainer.contract")


@pytest.mark.parametrize("path", TERMINAL, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_commands_talk_with_imports_of_the_trainer_its_contract_only(path: Path) -> None:
    for module in imports_of(path):
        allowed = module.split(".")[0] in {*sys.stdlib_module_names, "rich", "shtab"}
        assert allowed or module.startswith(SHARED)


@pytest.mark.slow
def test_loading_the_code_location_imports_nothing_heavy() -> None:
    code = (
        "import json, sys\nfrom training_assets.definitions import defs\n"
        "defs.resolve_asset_graph()\nprint(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "dagster" in loaded
    assert not loaded & HEAVY
