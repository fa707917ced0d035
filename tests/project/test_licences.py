"""What others made is listed with its licence, and nothing that we need is under the GPL or the AGPL alone."""

import importlib.util
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from importlib.metadata import Distribution, distributions
from pathlib import Path
from types import ModuleType

import pytest

from training_assets.stores.dvc import EXECUTABLE

REPOSITORY = Path(__file__).resolve().parents[2]
LIST = REPOSITORY / "THIRD_PARTY.md"
TEXTS = REPOSITORY / "LICENSES"
WRITTEN_HERE = (
    ".py", ".md", ".tf", ".yaml", ".yml", ".toml", ".lock", ".j2", ".tfvars", ".env", ".Dockerfile", ".gitignore", "",
)  # fmt: skip
SOMEBODYS = re.compile(
    rb"@license|SPDX-License-Identifier|Copyright \(c\)|\(c\) Copyright|Copyright 20|\xc2\xa9 ?(19|20)"
)
STRONG = re.compile(r"\bA?GPL|\bAffero|GNU General Public", re.IGNORECASE)
WEAK = re.compile(r"\bLGPL|Lesser General|linking exception|\bEPL|Apache|MIT|BSD|MPL", re.IGNORECASE)
"""The LGPL, an exception for whoever links, or another licence to choose instead."""
DVC = os.environ.get(EXECUTABLE)
ENVIRONMENTS = {
    "requirements.lock": Path(sys.prefix),
    "requirements-dvc.lock": Path(DVC).parents[1] if DVC else REPOSITORY / ".venv-dvc",
    "requirements-emulators.lock": REPOSITORY / ".venv-emulators",
    "requirements-sweeps.lock": REPOSITORY / ".venv-sweeps",
    "requirements-bench.lock": REPOSITORY / ".venv-bench",
    "requirements-checks.lock": REPOSITORY / ".venv-checks",
}


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True, text=True)
    return [name for name in listed.stdout.split("\0") if name and (REPOSITORY / name).is_file()]


def patterns() -> list[str]:
    return [name for name in re.findall(r"`([^`]+)`", LIST.read_text()) if "/" in name and " " not in name]


def is_listed(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns())


def test_every_file_of_a_kind_that_often_comes_from_others_is_listed() -> None:
    assert not [name for name in tracked() if Path(name).suffix not in WRITTEN_HERE and not is_listed(name)]


def test_every_file_that_names_a_holder_is_listed() -> None:
    # This file has the words as a pattern, the root's licence is our own.
    own = {"LICENSE", "THIRD_PARTY.md", str(Path(__file__).relative_to(REPOSITORY))}
    named = [name for name in tracked() if name not in own and SOMEBODYS.search((REPOSITORY / name).read_bytes())]
    assert not [name for name in named if not is_listed(name)]


def test_what_is_listed_is_there_and_every_text_is_used() -> None:
    elsewhere = re.compile(r"^(python-sdk|eval|bdd100k)/")
    files = [pattern for pattern in patterns() if "*" not in pattern and not elsewhere.match(pattern)]
    assert files
    assert not [name for name in files if not (REPOSITORY / name).is_file()]
    links = set(re.findall(r"\((LICENSES/[^)]+)\)", LIST.read_text()))
    assert links == {f"LICENSES/{path.name}" for path in TEXTS.iterdir()}
    assert all(len(path.read_text()) > 900 for path in TEXTS.iterdir())


def test_what_a_report_makes_inlines_nobodys_script() -> None:
    pages = [*(REPOSITORY / "training_assets").rglob("*.j2"), *(REPOSITORY / "training_assets").rglob("*.js")]
    assert pages
    for page in pages:
        assert not SOMEBODYS.search(page.read_bytes()), page
        assert "<script src" not in page.read_text(), page


@pytest.fixture(scope="module")
def bill_of_materials() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbom", REPOSITORY / "deploy" / "docker" / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("lock", ENVIRONMENTS)
def test_no_package_is_under_the_gpl_or_the_agpl_alone(lock: str, bill_of_materials: ModuleType) -> None:
    found = installed(ENVIRONMENTS[lock])
    if not found:
        pytest.skip(f"what {lock} pins is not installed here")
    wanted = pinned(REPOSITORY / lock)
    assert len(wanted & found.keys()) > 0.9 * len(wanted), "a lock is judged by what is installed of it"
    stated = {name: licence_of(found[name], bill_of_materials) for name in wanted & found.keys()}
    assert not {name: text for name, text in stated.items() if is_strong_alone(text)}
    assert not {name for name, text in stated.items() if not text.strip()} - {"faster-coco-eval"}


def is_strong_alone(text: str) -> bool:
    return bool(STRONG.search(text)) and not WEAK.search(text)


@pytest.mark.parametrize(
    ("text", "strong"),
    [("AGPL-3.0-only", True), ("GNU Affero General Public License v3", True), ("GPL-2.0", True),
     ("GNU General Public License v2 (GPLv2)", True), ("GPLv2 with linking exception", False),
     ("EPL-2.0 OR GPL-2.0-or-later", False), ("GNU Lesser General Public License v3", False), ("BSD-3-Clause", False)],
)  # fmt: skip
def test_it_tells_them_apart(text: str, strong: bool) -> None:
    assert is_strong_alone(text) == strong


def installed(environment: Path) -> dict[str, Distribution]:
    places = [*environment.glob("lib/python3.*/site-packages"), environment]
    return {_plain(one.metadata["Name"]): one for one in distributions(path=[str(place) for place in places])}


def pinned(lock: Path) -> set[str]:
    return {_plain(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock.read_text(), re.MULTILINE)}


def licence_of(one: Distribution, bill_of_materials: ModuleType) -> str:
    """What it states, in whichever field: some name one of two licences in a classifier, and both in the text."""
    classified = str(bill_of_materials._licences(one))
    free = (one.metadata.get("License") or "")[:200]
    return f"{classified.removeprefix('[]')} {free}"


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
