"""Files: either the old content or the new, digests, and paths that stay below their root."""

import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.files import OutsideRoot, atomic_open, digest_of, inside, sha256_of, write_json, write_text


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_open(path) as stream:  # noqa: PT012 - the write is what fails
        stream.write(b"half of the ne")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_until_it_is_done_a_write_cannot_be_seen(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with atomic_open(path) as stream:
        stream.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


@given(content=st.binary(max_size=3000))
def test_sha256_is_that_of_the_bytes(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "content"
    path.write_bytes(content)
    assert sha256_of(path) == hashlib.sha256(content).hexdigest()


def test_the_digest_of_a_value_does_not_depend_on_the_order_of_keys():
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert digest_of({"a": 1, "b": [1, 2]}) != digest_of({"a": 1, "b": [2, 1]})


@pytest.mark.parametrize("reference", ["a.txt", "deep/a.txt", "./a.txt", "deep/../a.txt", "a..b"])
def test_paths_below_the_root_are_inside(tmp_path, reference):
    assert inside(tmp_path, reference).resolve().is_relative_to(tmp_path)


@pytest.mark.parametrize("reference", ["..", "../a", "/etc/passwd", "a/../../b", ".", "", "a\0b", "x" * 5000])
def test_paths_that_leave_the_root_or_cannot_be_are_outside(tmp_path, reference):
    with pytest.raises(OutsideRoot):
        inside(tmp_path, reference)


def test_paths_that_are_inside_only_where_the_root_lies_now_are_outside(tmp_path):
    for reference in (str(tmp_path / "a"), f"../{tmp_path.name}/a", f"b/../../{tmp_path.name}/a"):
        with pytest.raises(OutsideRoot):
            inside(tmp_path, reference)


def test_links_count_by_where_they_lead(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("x")
    (root / "kept").write_text("x")
    (root / "out").symlink_to(tmp_path)
    (root / "in").symlink_to("kept")
    (root / "circle").symlink_to("circle")
    assert inside(root, "in").read_text() == "x"
    for reference in ("out/secret", "out", "circle"):
        with pytest.raises(OutsideRoot):
            inside(root, reference)


@given(parts=st.lists(st.sampled_from(["..", ".", "a", "b", "", "out"]), max_size=6))
def test_whatever_is_let_through_lies_below_the_root(parts, tmp_path_factory):
    root = tmp_path_factory.getbasetemp() / "root"
    (root / "a" / "b").mkdir(parents=True, exist_ok=True)
    if not (root / "out").is_symlink():
        (root / "out").symlink_to("..")
    try:
        found = inside(root, "/".join(parts))
    except OutsideRoot:
        return
    assert os.path.commonpath([os.path.realpath(found), os.path.realpath(root)]) == os.path.realpath(root)
