"""Each kind of object store, empty."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

from tests.emulators.ministack import ministack
from tests.emulators.moto_s3 import reach
from training_assets.stores.objects import LocalObjects, ObjectStore, S3Objects

PART = 5 << 20
"""The smallest that S3 takes."""


@pytest.fixture(scope="session")
def ministack_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ministack(tmp_path_factory.mktemp("ministack")) as url:
        yield url


def bucket_store(part_bytes: int = PART) -> S3Objects:
    bucket = f"bucket-{uuid4().hex[:8]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return S3Objects(bucket, "archive", part_bytes)


@pytest.fixture(params=["local", "moto", pytest.param("ministack", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    if request.param == "local":
        return LocalObjects(tmp_path / "root")
    if request.param == "moto":
        request.getfixturevalue("moto")
    else:
        reach(request.getfixturevalue("ministack_url"), monkeypatch)
    return bucket_store()


@pytest.fixture
def damage() -> Callable[[ObjectStore, str, bytes], None]:
    """Change an object's bytes behind the store's back, as a fault of the storage would: all else stays."""

    def damaged(store: ObjectStore, name: str, content: bytes) -> None:
        if isinstance(store, LocalObjects):
            store.path(name).chmod(0o644)
            store.path(name).write_bytes(content)
            return
        assert isinstance(store, S3Objects)
        key, client = f"{store.prefix}{name}", boto3.client("s3")
        metadata = client.head_object(Bucket=store.bucket, Key=key)["Metadata"]
        client.put_object(Bucket=store.bucket, Key=key, Body=content, Metadata=metadata)

    return damaged
