"""What only a network can do: uploads and downloads that are killed, throttling, lost and broken answers."""

import base64
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import boto3
import pytest

from tests.emulators.moto_s3 import Answer, Asked, S3Server, error, reach
from tests.training_assets.stores.objects.conftest import bucket_store
from training_assets.stores.objects import Changed, S3Objects, StoreUnreachable, multipart, retries

REPOSITORY = Path(__file__).parents[4]
PART = 256 << 10
PARTS = 8
SLOW_DOWN = error("503 Slow Down", "SlowDown")


@pytest.fixture
def store(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Objects:
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", PART)
    found = bucket_store(part_bytes=PART)
    moto.calm()
    return found


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big.bin"
    path.write_bytes(random.Random(2).randbytes((PARTS - 1) * PART + 1000))
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_SECONDS", 0.001)


def kill_while_it_asks(moto: S3Server, store: S3Objects, method: str, arguments: list[str], held: int) -> None:
    """Run an upload or download in a process of its own; SIGKILL it when all but ``held`` requests are answered."""
    reached, over = threading.Event(), threading.Event()
    seen: set[str] = set()

    def before(asked: Asked) -> Answer | None:
        which = f"{asked.part or asked.range}"
        if which in ("0", ""):
            return None
        seen.add(which)
        if len(seen) <= held:
            return None
        reached.set()
        over.wait(60)
        return SLOW_DOWN

    moto.before = before
    program = (
        "import sys\nfrom pathlib import Path\nfrom training_assets.stores.objects import S3Objects\n"
        f"store = S3Objects({store.bucket!r}, {store.prefix!r}, {store.part_bytes})\n"
        f"{method}\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=REPOSITORY)
    try:
        assert reached.wait(60)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        over.set()


@pytest.mark.slow
def test_a_killed_upload_goes_on_without_sending_again_what_arrived(
    moto: S3Server, store: S3Objects, big: Path
) -> None:
    kill_while_it_asks(moto, store, "store.upload(Path(sys.argv[1]), 'models/big')", [str(big)], held=5)
    assert store.stat("models/big") is None
    arrived = arrived_parts(store)
    assert 1 <= len(arrived) < PARTS
    moto.calm()
    stored = store.upload(big, "models/big")
    assert moto.parts() == [number for number in range(1, PARTS + 1) if number not in arrived]
    assert stored.bytes == big.stat().st_size
    store.download("models/big", big.parent / "back")
    assert (big.parent / "back").read_bytes() == big.read_bytes()
    assert unfinished(store) == []


def test_nothing_is_deleted_and_what_an_upload_left_does_not_hold_up_the_next(
    moto: S3Server, store: S3Objects, big: Path
) -> None:
    store.upload(big, "models/big")
    big.write_bytes(big.read_bytes()[::-1])
    store.upload(big, "models/big")
    assert store.read("models/big").content == big.read_bytes()
    deletes = [asked for asked in moto.asked if asked.method == "DELETE"]
    assert all("uploadId" in asked.query for asked in deletes)


def arrived_parts(store: S3Objects) -> list[int]:
    (upload,) = unfinished(store)
    parts = boto3.client("s3").list_parts(Bucket=store.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    return [part["PartNumber"] for part in parts.get("Parts", [])]


def unfinished(store: S3Objects) -> list[dict]:
    return boto3.client("s3").list_multipart_uploads(Bucket=store.bucket).get("Uploads", [])


@pytest.mark.slow
def test_a_killed_upload_of_another_file_is_thrown_away(moto: S3Server, store: S3Objects, big: Path) -> None:
    kill_while_it_asks(moto, store, "store.upload(Path(sys.argv[1]), 'models/big')", [str(big)], held=2)
    moto.calm()
    changed = big.read_bytes()[:-1] + b"!"
    big.write_bytes(changed)
    store.upload(big, "models/big")
    assert moto.parts() == list(range(1, PARTS + 1))
    assert store.read("models/big").content == changed
    assert unfinished(store) == []


def test_an_upload_that_the_bucket_has_thrown_away_begins_again(moto: S3Server, store: S3Objects, big: Path) -> None:
    kill_while_it_asks(moto, store, "store.upload(Path(sys.argv[1]), 'models/big')", [str(big)], held=2)
    moto.calm()
    (upload,) = unfinished(store)
    boto3.client("s3").abort_multipart_upload(Bucket=store.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    store.upload(big, "models/big")
    assert store.read("models/big").content == big.read_bytes()


@pytest.mark.slow
def test_a_killed_download_goes_on_without_asking_again_for_what_came(
    moto: S3Server, store: S3Objects, big: Path, tmp_path: Path
) -> None:
    store.upload(big, "models/big")
    moto.calm()
    target = tmp_path / "out" / "big"
    kill_while_it_asks(moto, store, "store.download('models/big', Path(sys.argv[1]))", [str(target)], held=5)
    assert not target.exists()
    (partial,) = target.parent.glob("*.partial")
    came = partial.stat().st_size
    assert came >= PART
    moto.calm()
    store.download("models/big", target)
    assert target.read_bytes() == big.read_bytes()
    assert min(int(asked.range.removeprefix("bytes=").split("-")[0]) for asked in moto.asked if asked.range) == came
    assert not list(target.parent.glob("*.partial"))


def test_a_file_that_is_there_is_neither_sent_nor_fetched_again(
    moto: S3Server, store: S3Objects, big: Path, tmp_path: Path
) -> None:
    store.upload(big, "models/big")
    store.download("models/big", tmp_path / "out")
    moto.calm()
    store.upload(big, "models/big")
    store.download("models/big", tmp_path / "out")
    assert {asked.method for asked in moto.asked} == {"HEAD"}


def test_an_object_that_is_replaced_while_it_is_fetched_is_not_mixed(
    moto: S3Server, store: S3Objects, big: Path, tmp_path: Path
) -> None:
    store.upload(big, "models/big")
    moto.before = lambda asked: error("412 Precondition Failed", "PreconditionFailed") if asked.range else None
    with pytest.raises(Changed, match="models/big"):
        store.download("models/big", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def refusing(moto: S3Server, times: int, answer: Answer, method: str = "PUT") -> None:
    """S3 answers the first ``times`` requests of a method with ``answer``."""
    left = [answer] * times

    def before(asked: Asked) -> Answer | None:
        return left.pop() if left and asked.method == method else None

    moto.before = before


@pytest.mark.slow
@pytest.mark.parametrize("answer", [SLOW_DOWN, error("500 Internal Server Error", "InternalError")])
def test_throttling_and_errors_of_s3_are_tried_again(moto: S3Server, store: S3Objects, answer: Answer) -> None:
    refusing(moto, 2, answer)
    store.create("one", b"first")
    moto.before = lambda asked: None
    assert store.read("one").content == b"first"


def test_a_conflict_of_conditional_writes_is_tried_again(moto: S3Server, store: S3Objects) -> None:
    refusing(moto, 3, error("409 Conflict", "ConditionalRequestConflict"))
    store.create("one", b"first")
    assert store.read("one").content == b"first"


def test_what_goes_on_and_on_is_given_up_and_said(moto: S3Server, store: S3Objects) -> None:
    moto.before = lambda asked: error("409 Conflict", "ConditionalRequestConflict")
    with pytest.raises(StoreUnreachable, match=r"one: .*ConditionalRequestConflict"):
        store.create("one", b"first")
    assert len(moto.asked) == retries.ATTEMPTS


@pytest.mark.slow
def test_a_write_whose_answer_is_lost_is_not_taken_for_somebody_elses(moto: S3Server, store: S3Objects) -> None:
    lost = [error("500 Internal Server Error", "InternalError")]

    def after(asked: Asked, body: bytes) -> bytes | Answer:
        return lost.pop() if lost and asked.method == "PUT" else body

    moto.after = after
    version = store.create("one", b"first")
    assert store.read("one").version == version
    lost.append(error("500 Internal Server Error", "InternalError"))
    assert store.replace("one", b"second", version) == store.read("one").version
    with pytest.raises(FileExistsError):
        store.create("one", b"second")


def test_content_that_breaks_off_is_asked_for_again(moto: S3Server, store: S3Objects, tmp_path: Path) -> None:
    store.create("one", b"content" * 1000)
    broken = [1, 1]

    def after(asked: Asked, body: bytes) -> bytes:
        return body[: len(body) // 2] if asked.method == "GET" and broken and broken.pop() else body

    moto.after = after
    assert store.read("one").content == b"content" * 1000
    broken.append(1)
    store.download("one", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"content" * 1000
    broken[:] = [1] * retries.ATTEMPTS
    with pytest.raises(StoreUnreachable, match="one"):
        store.read("one")


def test_s3_is_told_the_digests_of_what_it_gets(moto: S3Server, store: S3Objects, big: Path) -> None:
    """moto does not compare them with the bytes; S3 does, and refuses what was damaged on the way."""
    store.upload(big, "models/big")
    client = boto3.client("s3")
    head = client.head_object(Bucket=store.bucket, Key=f"{store.prefix}models/big", ChecksumMode="ENABLED")
    assert head["Metadata"]["sha256"] == store.stat("models/big").sha256
    content = big.read_bytes()
    parts = (hashlib.sha256(content[start : start + PART]).digest() for start in range(0, len(content), PART))
    composite = base64.b64encode(hashlib.sha256(b"".join(parts)).digest()).decode()
    assert head["ChecksumSHA256"].split("-")[0] == composite


@pytest.mark.slow
def test_bytes_that_are_damaged_on_the_way_are_refused_by_s3(
    ministack_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reach(ministack_url, monkeypatch)
    store, path = bucket_store(), tmp_path / "file"

    def damaged_after(given: Path, part_bytes: int) -> multipart.Plan:
        plan = multipart.plan_of(given, part_bytes)
        given.write_bytes(b"fault")
        return plan

    monkeypatch.setattr("training_assets.stores.objects.s3.plan_of", damaged_after)
    path.write_bytes(b"first")
    with pytest.raises(StoreUnreachable, match=r"file: other bytes arrived than were sent"):
        store.upload(path, "file")
    assert store.stat("file") is None


@pytest.mark.slow
def test_a_store_out_of_reach_is_said_to_be(moto: S3Server, store: S3Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreUnreachable, match=r"127\.0\.0\.1:9"):
        S3Objects(store.bucket).read("one")
