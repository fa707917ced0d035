"""The inbox: when a delivery is complete, in which order things arrived, what is fetched, put and refused."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from trainer.contract.delivery import FILES, file_digests
from trainer.contract.errors import ContractError
from training_assets.stores.inbox import (
    DeliveryFound,
    Inbox,
    InboxUnreachable,
    Incomplete,
    LocalInbox,
    S3Inbox,
    inbox_of,
)
from training_assets.stores.inbox.base import SUCCESS, SUMS

CONTENT = {name: f"content of {name}".encode() for name in FILES}
SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
ALL_SUMS = "".join(f"{digest}  {name}\n" for name, digest in SHA256.items()).encode()


class Uploads(Protocol):
    """Somebody else who writes into the inbox."""

    inbox: Inbox

    def write(self, name: str, content: bytes) -> None: ...


class LocalUploads:
    def __init__(self, root: Path) -> None:
        self.root, self.inbox = root, LocalInbox(root)

    def write(self, name: str, content: bytes) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(content)


class S3Uploads:
    def __init__(self, bucket: str) -> None:
        import boto3

        self.bucket, self.client = bucket, boto3.client("s3")
        self.inbox = S3Inbox(bucket, "some/prefix")

    def write(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"some/prefix/{name}", Body=content)


@pytest.fixture(params=["local", "s3"])
def uploads(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Uploads]:
    if request.param == "local":
        yield LocalUploads(tmp_path / "inbox")
    else:
        yield S3Uploads(request.getfixturevalue("s3").removeprefix("s3://"))


def deliver(uploads: Uploads, name: str, *files: str, marker: str = SUCCESS) -> None:
    for file in files or FILES:
        uploads.write(f"{name}/{file}", CONTENT[file])
    if marker:
        uploads.write(f"{name}/{marker}", ALL_SUMS if marker == SUMS else b"")


def looked(uploads: Uploads, name: str = "drop") -> str:
    """Why the delivery is not complete; empty when it is."""
    found = uploads.inbox.look(name)
    return found.missing if isinstance(found, Incomplete) else ""


def test_an_inbox_that_is_not_there_yet_is_empty(uploads: Uploads) -> None:
    assert uploads.inbox.arrivals() == []
    assert uploads.inbox.newest() is None
    assert uploads.inbox.slices() == []
    with pytest.raises(ContractError, match="found no complete delivery, expected one: python -m training_assets"):
        uploads.inbox.find()


@pytest.mark.parametrize("marker", [SUCCESS, SUMS])
def test_a_delivery_with_its_four_files_and_either_marker_is_complete(uploads: Uploads, marker: str) -> None:
    deliver(uploads, "drop", marker=marker)
    (arrival,) = uploads.inbox.arrivals()
    found = uploads.inbox.look(arrival.name)
    assert isinstance(found, DeliveryFound)
    assert (arrival.missing, arrival.mark) == ("", found.mark)
    assert (found.name, dict(found.digests)) == ("drop", SHA256)
    assert uploads.inbox.newest() == uploads.inbox.find("drop") == found


@pytest.mark.parametrize("missing", FILES)
def test_without_one_of_the_four_files_it_is_not_and_says_which(uploads: Uploads, missing: str) -> None:
    deliver(uploads, "drop", *(file for file in FILES if file != missing))
    assert looked(uploads) == f"{missing} missing"
    (arrival,) = uploads.inbox.arrivals()
    assert arrival.missing == f"{missing} missing"
    assert uploads.inbox.newest() is None


def test_without_a_marker_it_is_not_complete(uploads: Uploads) -> None:
    deliver(uploads, "drop", marker="")
    assert looked(uploads) == "neither _SUCCESS nor SHA256SUMS is there"


def test_a_file_that_is_not_what_the_sums_say_is_still_being_written(uploads: Uploads) -> None:
    deliver(uploads, "drop", marker=SUMS)
    uploads.write("drop/golden_val.manifest", b"half")
    assert "golden_val.manifest has sha256" in looked(uploads)
    assert "still being written" in looked(uploads)


@pytest.mark.parametrize(
    ("sums", "said"),
    [
        (ALL_SUMS.replace(b"slices.yaml", b"other.yaml"), "SHA256SUMS does not name slices.yaml"),
        (ALL_SUMS.replace(b"  ", b" *./"), ""),  # as `sha256sum -b ./*` writes it
        (ALL_SUMS.replace(b"  golden_val", b"  elsewhere/golden_val"), "SHA256SUMS does not name golden_val.manifest"),
        (b"\xff\x00\n\n  \n", "does not name"),
    ],
)
def test_sums_are_read_as_sha256sum_writes_them(tmp_path: Path, sums: bytes, said: str) -> None:
    uploads = LocalUploads(tmp_path)
    deliver(uploads, "drop", marker="")
    uploads.write(f"drop/{SUMS}", sums)
    assert said in looked(uploads)
    assert bool(said) == bool(looked(uploads))


def test_a_file_written_over_after_the_marker_waits_for_a_new_marker(tmp_path: Path) -> None:
    """The upload of another delivery under the same name must not be taken for a complete one halfway."""
    uploads = LocalUploads(tmp_path)
    deliver(uploads, "drop")
    os.utime(tmp_path / "drop" / SUCCESS, (1e9, 1e9))
    os.utime(tmp_path / "drop" / "slices.yaml", (2e9, 2e9))
    assert "slices.yaml written after _SUCCESS" in looked(uploads)
    uploads.write(f"drop/{SUCCESS}", b"")
    os.utime(tmp_path / "drop" / SUCCESS, (2e9, 2e9))
    for name in set(FILES) - {"slices.yaml"}:
        os.utime(tmp_path / "drop" / name, (1e9, 1e9))
    assert looked(uploads) == ""


class Growing(LocalInbox):
    """A file is appended to while another is being read."""

    def _sha256(self, name: str) -> str:
        digest = super()._sha256(name)
        if name.endswith("slices.yaml"):
            with open(self.root / "drop" / "golden_train.manifest", "ab") as manifest:
                manifest.write(b"one more row\n")
        return digest


def test_a_manifest_that_grows_while_it_is_read_is_not_complete(tmp_path: Path) -> None:
    deliver(LocalUploads(tmp_path), "drop", marker=SUMS)
    found = Growing(tmp_path).look("drop")
    assert isinstance(found, Incomplete)
    assert found.missing == "golden_train.manifest changed while being read: still being written"


def test_deliveries_come_in_the_order_of_arrival_and_those_of_one_moment_by_name(uploads: Uploads) -> None:
    for name in ("b", "a", "c"):
        deliver(uploads, name)
    arrivals = uploads.inbox.arrivals()
    assert arrivals == sorted(arrivals, key=lambda one: (one.arrived, one.name))
    assert {one.name for one in arrivals} == {"a", "b", "c"}
    newest = uploads.inbox.newest()
    assert newest is not None
    assert newest.name == arrivals[-1].name


def test_a_delivery_moved_here_with_its_old_times_arrives_when_it_is_moved(tmp_path: Path) -> None:
    elsewhere, uploads = LocalUploads(tmp_path / "elsewhere"), LocalUploads(tmp_path / "inbox")
    deliver(elsewhere, "old")
    deliver(uploads, "first")
    for path in (tmp_path / "elsewhere" / "old").iterdir():
        os.utime(path, (1e9, 1e9))
    (tmp_path / "elsewhere" / "old").rename(tmp_path / "inbox" / "old")
    assert [arrival.name for arrival in uploads.inbox.arrivals()] == ["first", "old"]


def test_the_fingerprint_changes_with_every_file_that_arrives(uploads: Uploads) -> None:
    seen = set()
    for file in FILES:
        uploads.write(f"drop/{file}", CONTENT[file])
        seen.add(uploads.inbox.arrivals()[0].fingerprint)
    assert len(seen) == len(FILES)


@pytest.mark.parametrize("name", ["with space", "a..b", "x" * 101, "_hidden", "-dash"])
def test_a_delivery_whose_name_is_no_plain_name_is_not_taken_and_says_why(uploads: Uploads, name: str) -> None:
    deliver(uploads, name)
    (arrival,) = uploads.inbox.arrivals()
    assert arrival.missing.startswith("its name has ")
    assert "expected 1 to 100 of the characters" in arrival.missing


def test_what_is_fetched_is_the_whole_delivery(uploads: Uploads, tmp_path: Path) -> None:
    uploads.write("drop/images/a.png", b"picture")
    deliver(uploads, "drop")
    told: list[tuple[int, int]] = []
    root = uploads.inbox.fetch(uploads.inbox.find("drop"), tmp_path / "copies", lambda *n: told.append(n))
    assert (root / "images" / "a.png").read_bytes() == b"picture"
    assert file_digests(root) == SHA256
    if isinstance(uploads, S3Uploads):
        assert told[-1] == (6, 6)
        (root / "images" / "a.png").write_bytes(b"kept")  # a second time, nothing is fetched
        assert uploads.inbox.fetch(uploads.inbox.find("drop"), tmp_path / "copies") == root
        assert (root / "images" / "a.png").read_bytes() == b"kept"


def test_a_fetch_that_was_killed_goes_on_and_one_of_another_content_is_refused(s3: str, tmp_path: Path) -> None:
    uploads = S3Uploads(s3.removeprefix("s3://"))
    deliver(uploads, "drop")
    found = uploads.inbox.find("drop")
    partial = tmp_path / f".drop-{found.digest[:12]}.partial"
    partial.mkdir()
    (partial / "golden_val.manifest").write_bytes(b"ha")
    uploads.write("drop/golden_test.manifest", b"another")
    with pytest.raises(ContractError, match=r"another golden_test.manifest than a moment ago"):
        uploads.inbox.fetch(found, tmp_path)
    uploads.write("drop/golden_test.manifest", CONTENT["golden_test.manifest"])
    assert file_digests(uploads.inbox.fetch(found, tmp_path)) == SHA256
    assert not partial.exists()


def test_an_objects_name_that_leads_out_of_the_delivery_is_refused(s3: str, tmp_path: Path) -> None:
    uploads = S3Uploads(s3.removeprefix("s3://"))
    uploads.write("drop/../../escaped", b"x")
    deliver(uploads, "drop")
    with pytest.raises(ContractError, match="a path inside the delivery"):
        uploads.inbox.fetch(uploads.inbox.find("drop"), tmp_path)
    assert not list(tmp_path.rglob("escaped"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "images").mkdir(parents=True)
    (source / "images" / "a.png").write_bytes(b"picture")
    for name, content in CONTENT.items():
        (source / name).write_bytes(content)
    return source


def test_what_is_put_is_found_whole_and_putting_it_again_changes_nothing(uploads: Uploads, source: Path) -> None:
    told: list[tuple[int, int]] = []
    found = uploads.inbox.put(source, "drop", lambda *n: told.append(n))
    assert dict(found.digests) == SHA256
    assert told[-1] == (5, 5)
    assert uploads.inbox.put(source, "drop") == found
    fetched = uploads.inbox.fetch(found, source.parent / "copies")
    assert (fetched / "images" / "a.png").read_bytes() == b"picture"


def test_another_delivery_of_a_name_is_refused_and_the_first_stays(uploads: Uploads, source: Path) -> None:
    found = uploads.inbox.put(source, "drop")
    (source / "slices.yaml").write_text("slices: []")
    with pytest.raises(ContractError, match=r"found another slices.yaml, expected a name that is not taken"):
        uploads.inbox.put(source, "drop")
    assert uploads.inbox.find("drop") == found


@pytest.mark.parametrize("name", ["slices", "../out", "a\nb", ""])
def test_nothing_is_put_under_a_name_that_is_none(tmp_path: Path, source: Path, name: str) -> None:
    with pytest.raises(ContractError, match="name of the delivery: found"):
        LocalInbox(tmp_path / "inbox").put(source, name)


def test_an_upload_that_was_killed_is_not_complete_and_goes_on_when_put_again(uploads: Uploads, source: Path) -> None:
    uploads.write("drop/golden_train.manifest", CONTENT["golden_train.manifest"])
    uploads.write("drop/images/a.png", b"pic")
    assert "missing" in looked(uploads)
    found = uploads.inbox.put(source, "drop")
    fetched = uploads.inbox.fetch(found, source.parent / "copies")
    assert (fetched / "images" / "a.png").read_bytes() == b"picture"


def test_images_are_linked_and_manifests_copied(tmp_path: Path, source: Path) -> None:
    LocalInbox(tmp_path / "inbox").put(source, "drop")
    linked = (tmp_path / "inbox" / "drop" / "images" / "a.png").stat()
    assert linked.st_ino == (source / "images" / "a.png").stat().st_ino
    with open(source / "golden_train.manifest", "ab") as manifest:
        manifest.write(b"changed later")
    assert LocalInbox(tmp_path / "inbox").find("drop").digests == SHA256


def test_slices_come_in_the_order_of_arrival_after_a_mark(uploads: Uploads) -> None:
    for name in ("rain", "fog"):
        uploads.write(f"slices/{name}.manifest", b"{}\n")
    uploads.write("slices/images/rain.png", b"x")
    uploads.write("slices/_refused/old-12345678.manifest", b"x")
    found = uploads.inbox.slices()
    assert {one.name for one in found} == {"rain", "fog"}
    assert found == sorted(found)
    assert uploads.inbox.slices(found[0].mark) == found[1:]
    assert uploads.inbox.arrivals() == []


def test_a_slice_is_fetched_with_the_images_that_it_names(uploads: Uploads, tmp_path: Path) -> None:
    uploads.write("slices/fog.manifest", b"row\n")
    uploads.write("slices/fog/a.png", b"a")
    uploads.write("slices/b.png", b"b")
    references = ["fog/a.png", "b.png"]
    assert uploads.inbox.lacking([*references, "fog/c.png", "../up.png"]) == {"fog/c.png", "../up.png"}
    assert uploads.inbox.slice_manifest("fog", tmp_path / "one").read_bytes() == b"row\n"
    manifest = uploads.inbox.fetch_slice("fog", references, tmp_path / "two")
    assert (manifest.name, manifest.read_bytes()) == ("fog.manifest", b"row\n")
    assert [(manifest.parent / one).read_bytes() for one in references] == [b"a", b"b"]
    with pytest.raises(FileNotFoundError):
        uploads.inbox.slice_manifest("nothing", tmp_path / "one")


def test_the_version_of_a_slice_changes_with_its_content(uploads: Uploads) -> None:
    assert uploads.inbox.slice_version("fog") is None
    uploads.write("slices/fog.manifest", b"one")
    first = uploads.inbox.slice_version("fog")
    uploads.write("slices/fog.manifest", b"two!")
    assert first != uploads.inbox.slice_version("fog")


def test_a_refused_slice_goes_aside_with_its_report_and_each_refusal_is_kept(uploads: Uploads, tmp_path: Path) -> None:
    digest = "deadbeef" * 8
    for number in range(2):
        uploads.write("slices/fog.manifest", b"bad")
        assert uploads.inbox.refusals("fog", digest) == number
        place = ("fog-deadbeef.report.txt", "fog-deadbeef-2.report.txt")[number]
        assert uploads.inbox.report_of("fog", digest).endswith(place)
        uploads.inbox.refuse("fog", digest, f"report {number}")
    assert uploads.inbox.slices() == []
    assert uploads.inbox.refusals("fog", digest) == 2
    read = uploads.inbox._read
    assert read("slices/_refused/fog-deadbeef.manifest") == b"bad"
    assert read("slices/_refused/fog-deadbeef-2.report.txt") == b"report 1"


@pytest.mark.parametrize("name", ["a\nb", "x|y", "a..b", "..", "n" * 300])
def test_a_slice_of_any_name_can_be_refused(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if "\n" in name:  # a test server for S3 does not take it
        uploads: Uploads = LocalUploads(tmp_path)
    else:
        uploads = S3Uploads(request.getfixturevalue("s3").removeprefix("s3://"))
    uploads.write(f"slices/{name}.manifest", b"bad")
    assert [one.name for one in uploads.inbox.slices()] == [name]
    uploads.inbox.refuse(name, "deadbeef" * 8, "no")
    assert uploads.inbox.slices() == []


def test_a_refusal_that_was_killed_before_the_slice_was_put_aside_is_made_again(tmp_path: Path) -> None:
    uploads = LocalUploads(tmp_path)
    uploads.write("slices/_refused/fog-deadbeef.report.txt", b"written before the kill")
    uploads.write("slices/fog.manifest", b"bad")
    uploads.inbox.refuse("fog", "deadbeef", "again")
    assert (tmp_path / "slices" / "_refused" / "fog-deadbeef.report.txt").read_text() == "again"


@pytest.mark.parametrize("uri", ["gs://bucket/x", "s3://", "ftp://host"])
def test_an_inbox_of_another_kind_is_refused(uri: str) -> None:
    with pytest.raises(ContractError, match="expected a directory, or s3://bucket/prefix"):
        inbox_of(uri)


def test_a_bucket_that_is_not_there_is_said_in_a_line(s3: str) -> None:
    with pytest.raises(InboxUnreachable, match=r"s3://nobodys-bucket/: .*NoSuchBucket"):
        inbox_of("s3://nobodys-bucket").arrivals()


@pytest.mark.slow
def test_an_inbox_out_of_reach_says_so_and_is_no_empty_one(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    inbox = inbox_of(s3)
    for ask in (inbox.arrivals, lambda: inbox.lacking(["a.png"])):
        with pytest.raises(InboxUnreachable, match=r"127\.0\.0\.1:9"):
            ask()


def test_an_inbox_on_a_file_system_without_links_gets_copies(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refused)
    LocalInbox(tmp_path / "inbox").put(source, "drop")
    shutil.rmtree(source)
    assert (tmp_path / "inbox" / "drop" / "images" / "a.png").read_bytes() == b"picture"
