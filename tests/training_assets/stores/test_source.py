"""Which code it was: commit, dirty flag, lock and image digest, with git and without."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from training_assets.stores.source import CodeVersion, code_version


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


def test_an_image_has_no_git_and_says_itself_which_commit_it_was_built_from(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("dagster==1.13\n")
    found = code_version(tmp_path, {"TRAINING_ASSETS_REVISION": "a" * 40})
    assert (found.git_sha, found.dirty, found.note) == ("a" * 40, False, None)


IMAGE = "host/trainer@sha256:" + "0" * 64
GRAPH = CodeVersion(git_sha="a" * 40, dirty=False, lock_sha256="e" * 64)


def test_without_an_image_the_graphs_code_trained() -> None:
    assert GRAPH.ran_in(None, None) == GRAPH


def test_an_image_of_the_graphs_commit_has_its_lock_too() -> None:
    assert GRAPH.ran_in(IMAGE, "a" * 40) == GRAPH.model_copy(update={"image_digest": IMAGE})


def test_an_image_of_another_commit_is_what_trained_and_the_note_has_the_graphs_commit() -> None:
    trained = GRAPH.ran_in(IMAGE, "b" * 40)
    assert (trained.git_sha, trained.dirty, trained.lock_sha256) == ("b" * 40, False, None)
    assert trained.note == f"the graph ran at commit {'a' * 40}"
    dirty = GRAPH.model_copy(update={"dirty": True}).ran_in(IMAGE, "a" * 40)
    assert (dirty.git_sha, dirty.dirty, dirty.lock_sha256) == ("a" * 40, False, None)
    assert str(dirty.note).endswith("with uncommitted changes")


def test_an_image_that_does_not_say_its_commit_does_not_get_the_graphs() -> None:
    trained = GRAPH.ran_in(IMAGE, None)
    assert (trained.git_sha, trained.dirty, trained.lock_sha256) == (None, None, None)
    assert "commit not known" in str(trained.note)
