"""Which code it was: commit, dirty flag, lock and image digest, with git and without."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from training_assets.stores.source import code_version


def git(repo: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(repo), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = tmp_path / "repo"
    repo.mkdir()
    git(repo, "init", "-q")
    (repo / "requirements.lock").write_text("dagster==1.13\n")
    (repo / ".gitignore").write_text("var/\n")
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "first")
    return repo


def test_a_clean_checkout_is_its_commit(repo: Path) -> None:
    found = code_version(repo)
    assert (found.git_sha, found.dirty, found.note) == (git(repo, "rev-parse", "HEAD"), False, None)
    assert found.lock_sha256 == hashlib.sha256(b"dagster==1.13\n").hexdigest()


@pytest.mark.parametrize(("name", "dirty"), [("requirements.lock", True), ("new.py", True), ("var/data.bin", False)])
def test_a_changed_or_a_new_file_makes_it_dirty_and_an_ignored_one_does_not(repo: Path, name: str, dirty: bool) -> None:
    (repo / name).parent.mkdir(exist_ok=True)
    (repo / name).write_text("changed")
    assert code_version(repo).dirty is dirty


def test_without_git_the_commit_is_not_known_and_the_note_says_so(tmp_path: Path) -> None:
    found = code_version(tmp_path)
    assert (found.git_sha, found.dirty, found.lock_sha256) == (None, None, None)
    assert found.note is not None
    assert "commit not known" in found.note
    assert "no requirements.lock" in found.note


def test_without_the_git_command_the_rest_is_still_known(repo: Path, tmp_path: Path) -> None:
    found = code_version(repo, {"PATH": str(tmp_path / "nothing")})
    assert found.git_sha is None
    assert found.lock_sha256 is not None


def test_a_copy_inside_another_checkout_does_not_take_its_commit(repo: Path) -> None:
    (repo / "copy").mkdir()
    assert code_version(repo / "copy").git_sha is None


def test_a_git_hook_of_another_repository_does_not_mislead(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    expected = git(repo, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert code_version(repo).git_sha == expected


def test_the_image_digest_comes_from_the_environment(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINING_ASSETS_IMAGE_DIGEST", "sha256:" + "0" * 64)
    assert code_version(repo).image_digest == "sha256:" + "0" * 64
