"""A file system of the emulator, linked to a bucket with a small delivery in it."""

from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from tests.emulators.fsx import Lustre, install
from training_assets.profiles.staging import FsxStaging
from training_assets.stores.fast_storage.base import Amount
from training_assets.stores.fast_storage.fsx import Fsx

FILE_SYSTEM = "fs-0123456789abcdef0"
FILES = {"golden_train.manifest": b"{}\n", "images/0001.png": b"one" * 300, "images/deep/0002.png": b"two" * 500}


class Heard(list[Amount]):
    """What was told of the progress."""

    def __call__(self, amount: Amount) -> None:
        self.append(amount)

    def last(self, work: str) -> Amount:
        return [amount for amount in self if amount.work == work][-1]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def delivered(s3: str) -> str:
    """``s3://bucket/inbox/d1`` with ``FILES`` in it, and ``d10`` beside it."""
    bucket = s3.removeprefix("s3://")
    client = boto3.client("s3")
    for name, content in FILES.items():
        client.put_object(Bucket=bucket, Key=f"inbox/d1/{name}", Body=content)
    client.put_object(Bucket=bucket, Key="inbox/d10/other", Body=b"another delivery")
    client.put_object(Bucket=bucket, Key="inbox/d1/", Body=b"")  # a folder, as consoles make them
    return f"{s3}/inbox/d1"


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    path = tmp_path / "fsx"
    path.mkdir()
    return path


@pytest.fixture
def settings(s3: str, mount: Path) -> FsxStaging:
    links = [
        {"directory": mount / "inbox", "uri": f"{s3}/inbox"},
        {"directory": mount / "store" / "runs", "uri": f"{s3}/runs"},
    ]
    return FsxStaging.model_validate({"kind": "fsx", "file_system_id": FILE_SYSTEM, "mount": mount, "links": links})


@pytest.fixture
def lustre(s3: str, mount: Path, monkeypatch: pytest.MonkeyPatch) -> Lustre:
    """The emulated FSx that the client reaches; its one file system is ``mount``."""

    def setting(owner: object, name: str, value: object) -> None:
        monkeypatch.setattr(owner, name, value, raising=False)

    emulated = Lustre({FILE_SYSTEM: mount})
    install(emulated, setting)
    return emulated


@pytest.fixture
def storage(lustre: Lustre, settings: FsxStaging) -> Fsx:
    return Fsx(settings, poll_seconds=0.02)


@pytest.fixture
def content() -> Callable[[Path], dict[str, bytes]]:
    return lambda root: {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }
