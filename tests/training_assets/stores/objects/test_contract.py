"""What every object store promises: the same tests for a directory, moto's S3 and ministack's."""

import hashlib
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from upath import UPath

from trainer.contract.errors import ContractError
from training_assets.stores.objects import (
    Changed,
    CorruptObject,
    LocalObjects,
    ObjectStore,
    S3Objects,
    StoreUnreachable,
    store_at,
)

REPOSITORY = Path(__file__).parents[4]
NAME = "registry/scenes/one.json"
BIG = 12 << 20
"""Three parts, the last one short."""
Damage = Callable[[ObjectStore, str, bytes], None]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big.bin"
    path.write_bytes(random.Random(1).randbytes(BIG))
    return path


def test_what_was_created_is_read(store: ObjectStore) -> None:
    version = store.create(NAME, b"first")
    found = store.read(NAME)
    assert (found.content, found.version) == (b"first", version)
    stat = store.stat(NAME)
    assert stat is not None
    assert (stat.bytes, stat.sha256, stat.version) == (5, sha256(b"first"), version)


def test_what_is_not_there_is_said_to_be(store: ObjectStore, tmp_path: Path) -> None:
    assert store.stat(NAME) is None
    assert store.list("registry") == []
    store.delete(NAME)
    with pytest.raises(FileNotFoundError, match=NAME):
        store.read(NAME)
    with pytest.raises(FileNotFoundError, match=NAME):
        store.download(NAME, tmp_path / "out")
    with pytest.raises(Changed):
        store.replace(NAME, b"second", "some version")
    assert store.stat(NAME) is None


def test_an_object_is_created_once(store: ObjectStore) -> None:
    store.create(NAME, b"first")
    with pytest.raises(FileExistsError, match=NAME):
        store.create(NAME, b"second")
    assert store.read(NAME).content == b"first"


def test_only_the_version_that_was_read_is_replaced(store: ObjectStore) -> None:
    first = store.create(NAME, b"first")
    second = store.replace(NAME, b"second", first)
    assert second != first
    with pytest.raises(Changed, match=NAME):
        store.replace(NAME, b"late", first)
    assert (store.read(NAME).content, store.read(NAME).version) == (b"second", second)


def test_deleted_is_gone_and_can_be_created_again(store: ObjectStore) -> None:
    store.create(NAME, b"first")
    store.delete(NAME)
    assert store.stat(NAME) is None
    store.create(NAME, b"again")
    assert store.read(NAME).content == b"again"


def test_a_list_is_of_one_folder_with_all_below_it(store: ObjectStore) -> None:
    for name in ("a/2.json", "a/b/1.json", "ab/3.json", "c.json"):
        store.create(name, b"x")
    assert store.list("a") == ["a/2.json", "a/b/1.json"]
    assert store.list("nothing") == []


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", "a/../b", ".objects/lock", "a/.hidden", "a b", "ä"])
def test_a_name_that_leads_out_or_is_the_stores_own_is_refused(store: ObjectStore, name: str) -> None:
    for use in (store.read, store.stat, store.delete, store.list, lambda one: store.create(one, b"x")):
        with pytest.raises(ContractError, match="no usable name"):
            use(name)


def test_a_damaged_object_is_named_with_both_digests(store: ObjectStore, damage: Damage, tmp_path: Path) -> None:
    store.create(NAME, b"first")
    damage(store, NAME, b"fault")
    both = f"(?s)one.json: found sha256 {sha256(b'fault')}, expected {sha256(b'first')}"
    with pytest.raises(CorruptObject, match=both):
        store.read(NAME)
    with pytest.raises(CorruptObject, match=both):
        store.download(NAME, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_download_is_what_the_reader_says_or_refused(store: ObjectStore, tmp_path: Path) -> None:
    store.create(NAME, b"first")
    with pytest.raises(CorruptObject, match=f"expected {'a' * 64}"):
        store.download(NAME, tmp_path / "out", "a" * 64)
    assert not (tmp_path / "out").exists()
    store.download(NAME, tmp_path / "out", sha256(b"first"))
    assert (tmp_path / "out").read_bytes() == b"first"


def test_a_file_goes_up_and_comes_down_as_it_was(store: ObjectStore, big: Path, tmp_path: Path) -> None:
    stored = store.upload(big, "models/scenes/big.bin")
    assert (stored.bytes, stored.sha256) == (BIG, sha256(big.read_bytes()))
    assert store.stat("models/scenes/big.bin") == stored
    store.download("models/scenes/big.bin", tmp_path / "out" / "big.bin")
    assert (tmp_path / "out" / "big.bin").read_bytes() == big.read_bytes()
    left = [path.name for path in (tmp_path / "out").iterdir() if path.name != ".lock"]
    assert left == ["big.bin"]


@pytest.mark.parametrize("content", [b"", b"x"])
def test_a_small_file_and_an_empty_one_too(store: ObjectStore, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "small").write_bytes(content)
    assert store.upload(tmp_path / "small", "small").sha256 == sha256(content)
    store.download("small", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content


def test_another_file_takes_the_place_of_the_one_before(store: ObjectStore, big: Path, tmp_path: Path) -> None:
    store.upload(big, "file")
    (tmp_path / "small").write_bytes(b"other")
    store.upload(tmp_path / "small", "file")
    assert store.read("file").content == b"other"


def test_a_file_that_is_missing_is_not_stored(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.upload(tmp_path / "nothing", "file")
    assert store.stat("file") is None


@pytest.mark.slow
def test_of_many_processes_that_create_at_once_one_gets_through(store: ObjectStore) -> None:
    program = (
        "import sys\nfrom training_assets.stores.objects import store_at\n"
        "store = store_at(sys.argv[1])\nstore.stat('warm')\nsys.stdin.readline()\n"
        "try:\n    store.create('one', sys.argv[2].encode())\n    print('won')\n"
        "except FileExistsError:\n    print('lost')\n"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", program, store.uri, str(number)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    assert sorted(said) == ["lost", "lost", "won"]
    assert store.read("one").content == str(said.index("won")).encode()


def test_a_uri_or_a_upath_names_a_store(tmp_path: Path) -> None:
    local, bucket = store_at(UPath(tmp_path)), store_at(UPath("s3://bucket/some/prefix"))
    assert isinstance(local, LocalObjects)
    assert local.root == tmp_path
    assert isinstance(bucket, S3Objects)
    assert (bucket.bucket, bucket.prefix, bucket.uri) == ("bucket", "some/prefix/", "s3://bucket/some/prefix")
    assert bucket.at("a/b") == "s3://bucket/some/prefix/a/b"


@pytest.mark.parametrize("uri", ["", "gs://bucket/x", "s3://", "ftp://host"])
def test_what_is_neither_a_directory_nor_a_bucket_is_refused(uri: str) -> None:
    with pytest.raises(ContractError, match="expected a directory, or s3://bucket/prefix"):
        store_at(uri)


def test_a_bucket_that_does_not_exist_is_said_to_be(moto: object) -> None:
    with pytest.raises(StoreUnreachable, match=r"s3://nobodys-bucket/a: .*NoSuchBucket"):
        store_at("s3://nobodys-bucket").create("a", b"x")
