"""What only a directory can get wrong: a kill between two renames, and files from before there were digests."""

import hashlib
from pathlib import Path

import pytest

from training_assets.stores.objects import CorruptObject, LocalObjects


@pytest.fixture
def store(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "root")


@pytest.mark.parametrize("killed_at", ["content", "last digest"])
def test_a_replacement_that_was_killed_leaves_one_of_both(
    store: LocalObjects, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    version = store.create("one", b"first")
    real, calls = store._expect, []

    def expect(name: str, digests: list[str]) -> None:
        calls.append(name)
        if killed_at == "last digest" and len(calls) == 2:
            raise KeyboardInterrupt
        real(name, digests)
        if killed_at == "content":
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "_expect", expect)
    with pytest.raises(KeyboardInterrupt):
        store.replace("one", b"second", version)
    monkeypatch.undo()
    found = store.read("one")
    assert found.content == (b"first" if killed_at == "content" else b"second")
    store.replace("one", b"third", found.version)
    assert store.read("one").content == b"third"
    store.path("one").chmod(0o644)
    store.path("one").write_bytes(b"first")
    with pytest.raises(CorruptObject):
        store.read("one")


def test_a_file_that_was_there_before_is_taken_as_it_is(store: LocalObjects) -> None:
    store.root.mkdir()
    (store.root / "old.json").write_bytes(b"old")
    assert store.read("old.json").content == b"old"
    assert store.list("nothing") == []
    with pytest.raises(FileExistsError):
        store.create("old.json", b"new")


def test_its_own_files_are_no_objects(store: LocalObjects) -> None:
    store.create("a/one", b"x")
    (store.root / "a" / ".one.upload").write_bytes(b"half")
    assert store.list("a") == ["a/one"]


def test_a_file_that_is_there_is_not_written_again(store: LocalObjects, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    first = store.upload(tmp_path / "file", "models/file")
    before = store.path("models/file").stat().st_mtime_ns
    assert store.upload(tmp_path / "file", "models/file") == first
    assert store.path("models/file").stat().st_mtime_ns == before
    assert first.sha256 == hashlib.sha256(b"content").hexdigest()
