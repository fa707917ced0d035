"""The hooks of git: they pass on what is committed, stop what they are for, and fetch nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIG = ".pre-commit-config.yaml"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The tracked files in a repository of their own: a hook that mends a file mends no file of ours."""
    copy = tmp_path / "checkout"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    for name in listed.decode().split("\0"):
        if name and (REPOSITORY / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((REPOSITORY / name).read_bytes())
    (copy / ".venv").symlink_to(sys.prefix)
    for command in (["init", "-q"], ["add", "--all", "--", ":!.venv"]):
        subprocess.run(["git", *command], cwd=copy, check=True)
    return copy


def run(checkout: Path) -> tuple[int, str]:
    # mypy is `make lint`'s, which CI runs before the tests: half a minute that need not be paid twice.
    environment = os.environ | {"SKIP": "mypy", "PRE_COMMIT_HOME": str(checkout.parent / "cache"), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "pre_commit", "run", "--all-files"]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_all_files_pass(checkout: Path) -> None:
    code, said = run(checkout)
    assert code == 0, said
    assert said.count("Passed") == len(hooks()) - 1, said


@pytest.mark.slow
def test_each_check_stops_what_it_is_for(checkout: Path) -> None:
    bad = {
        "unused.py": "import os\n",
        "crooked.py": "a = [1,\n2]\n",
        "large.bin": "0" * 600_000,
        "key.pem": f"-----BEGIN RSA {'PRIVATE'} KEY-----\n",
        "broken.yaml": "a: [1\n",
    }
    for name, text in bad.items():
        (checkout / name).write_text(text)
    subprocess.run(["git", "add", *bad], cwd=checkout, check=True)
    code, said = run(checkout)
    assert code == 1
    assert said.count("Failed") == len(bad), said


def test_hooks_are_programs_of_the_environment() -> None:
    for hook in hooks():
        assert hook["language"] == "system"
        program = hook["entry"].split()[0]
        assert program.startswith(".venv/bin/")
        assert (Path(sys.prefix) / program.removeprefix(".venv/")).is_file()


def hooks() -> list[dict[str, str]]:
    (repository,) = yaml.safe_load((REPOSITORY / CONFIG).read_text())["repos"]
    assert repository["repo"] == "local"
    return repository["hooks"]
