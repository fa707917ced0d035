"""checkov finds nothing in the modules, the roots and the manifests that is not argued beside it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.conftest import DEPLOY, ROOT

CHECKOV = ROOT / ".venv-checks" / "bin" / "checkov"
pytestmark = pytest.mark.slow


def test_checkov_finds_nothing_that_is_not_argued(tmp_path: Path) -> None:
    """Without its platform checkov knows no severities: every finding counts."""
    if not CHECKOV.exists():
        pytest.skip("needs checkov in an environment of its own (make .venv-checks/installed)")
    build = ["kubectl", "kustomize", DEPLOY / "kustomize" / "overlays" / "production"]
    shutil.copytree(DEPLOY / "terraform", tmp_path / "terraform", ignore=shutil.ignore_patterns(".terraform*"))
    (tmp_path / "production.yaml").write_text(subprocess.run(build, check=True, capture_output=True, text=True).stdout)
    arguments = ["--framework", "terraform", "kubernetes", "--skip-download", "--compact", "--quiet", "-o", "json"]
    found = subprocess.run([CHECKOV, "-d", tmp_path, *arguments], capture_output=True, text=True).stdout
    reports = {report["check_type"]: report for report in json.loads(found)}
    assert reports["terraform"]["summary"]["resource_count"] > 100
    assert reports["kubernetes"]["summary"]["resource_count"] > 10
    failed = [check for report in reports.values() for check in report["results"]["failed_checks"]]
    assert [(check["check_id"], check["resource"]) for check in failed] == []


def test_every_exception_says_why() -> None:
    places = [*DEPLOY.rglob("*.tf"), *DEPLOY.rglob("kustomization.yaml")]
    skips = [line for place in places for line in place.read_text().splitlines() if "CKV" in line]
    assert skips
    assert [line for line in skips if not re.search(r"CKV2?_[A-Z0-9]+_\d+[:=].{25,}", line)] == []
