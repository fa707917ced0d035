"""Objects below a prefix of an S3 bucket. Region, endpoint and credentials are boto3's own (environment, host role).

Each object has its sha256 in its metadata; S3 checks the same digest when the bytes arrive. Throttling, 5xx and
lost connections are tried again by botocore (``standard`` mode: exponential with jitter, bounded).
"""

import base64
import contextlib
import functools
import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

from trainer.contract.files import move_file, sha256_of
from training_assets.aws import client
from training_assets.stores.exclusive import locked
from training_assets.stores.objects.base import (
    Changed,
    CorruptObject,
    ObjectRead,
    ObjectStore,
    Stored,
    StoreUnreachable,
    changed_file,
    checked_name,
)
from training_assets.stores.objects.multipart import PARALLEL, Multipart, Plan, plan_of
from training_assets.stores.objects.retries import patiently

GONE = ("404", "NoSuchKey", "NotFound")
CONDITION_FAILED = ("412", "PreconditionFailed")
CONFLICT = ("409", "ConditionalRequestConflict")
DAMAGED_ON_THE_WAY = ("BadDigest", "InvalidDigest")
PART_BYTES = 16 << 20


class _BrokenOff(Exception):
    """The connection broke while the content came: botocore has handed it over by then and does not ask again."""


class S3Objects(ObjectStore):
    """The store below ``s3://bucket/prefix``; files of more than ``part_bytes`` (5 MiB at least) go in parts."""

    def __init__(self, bucket: str, prefix: str = "", part_bytes: int = PART_BYTES) -> None:
        self.bucket, self.prefix = bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = f"s3://{bucket}/{self.prefix}".rstrip("/")
        self.part_bytes = part_bytes

    def read(self, name: str) -> ObjectRead:
        with self._asking(name):
            answer, content = patiently(lambda: self._get(name), _is_broken_off)
        digest, expected = hashlib.sha256(content).hexdigest(), answer["Metadata"].get("sha256")
        if expected and digest != expected:
            raise CorruptObject(self.at(name), digest, expected)
        return ObjectRead(content, answer["ETag"])

    def create(self, name: str, content: bytes) -> str:
        try:
            return self._put_if(name, content, IfNoneMatch="*")
        except Changed:
            raise FileExistsError(self.at(name)) from None

    def replace(self, name: str, content: bytes, version: str) -> str:
        try:
            return self._put_if(name, content, IfMatch=version)
        except FileNotFoundError:
            raise Changed(self.at(name)) from None

    def stat(self, name: str) -> Stored | None:
        try:
            return _stored(self._head(name))
        except FileNotFoundError:
            return None

    def list(self, folder: str) -> list[str]:
        prefix = self._key(folder) + "/"
        with self._asking(folder):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
            return sorted(one["Key"].removeprefix(self.prefix) for page in pages for one in page.get("Contents", ()))

    def delete(self, name: str) -> None:
        with self._asking(name):
            self._client.delete_object(Bucket=self.bucket, Key=self._key(name))

    def upload(self, path: Path, name: str) -> Stored:
        plan = plan_of(path, self.part_bytes)
        there = self.stat(name)
        if there is not None and (there.sha256, there.bytes) == (plan.sha256, plan.bytes):
            return there
        with self._asking(name):
            if len(plan.parts) > 1:
                Multipart(self._client, self.bucket, self._key(name), self.prefix, plan).send()
            else:
                self._put(name, path.read_bytes(), plan.sha256)
        stored = self.stat(name)
        if stored is None or (stored.sha256, stored.bytes) != (plan.sha256, plan.bytes):
            raise changed_file(path) if _is_another(path, plan) else Changed(self.at(name))
        return stored

    def download(self, name: str, target: Path, sha256: str | None = None) -> None:
        stored = _stored(self._head(name))
        expected = sha256 or stored.sha256
        # Two that want the same file do not write into each other's.
        with locked(target.parent / ".lock"):
            if target.is_file() and sha256_of(target) == expected:
                return
            version = hashlib.sha256(stored.version.encode()).hexdigest()[:12]
            partial = target.with_name(f".{target.name}.{version}.partial")
            self._append_ranges(name, stored, partial)
            if (found := sha256_of(partial)) != (expected or found):
                partial.unlink()
                raise CorruptObject(self.at(name), found, str(expected))
            move_file(partial, target)

    def path(self, name: str) -> Path | None:
        return None

    def _append_ranges(self, name: str, stored: Stored, partial: Path) -> None:
        """What of the object ``partial`` lacks, a few ranges at a time; they are appended in order."""

        def fetched(start: int) -> bytes:
            end = min(start + self.part_bytes, stored.bytes) - 1
            asked = {"Range": f"bytes={start}-{end}", "IfMatch": stored.version}
            with self._asking(name):
                return patiently(lambda: self._get(name, **asked), _is_broken_off)[1]

        with open(partial, "ab") as sink, ThreadPoolExecutor(PARALLEL) as pool:
            starts = range(sink.tell(), stored.bytes, self.part_bytes)
            for first in range(0, len(starts), PARALLEL):
                for content in pool.map(fetched, starts[first : first + PARALLEL]):
                    sink.write(content)

    def _put_if(self, name: str, content: bytes, **condition: str) -> str:
        """
        Raises:
            Changed, FileNotFoundError: the condition does not hold.
        """
        write = uuid4().hex
        try:
            with self._asking(name):
                digest = hashlib.sha256(content).hexdigest()
                return patiently(lambda: self._put(name, content, digest, write, **condition), _is_conflict)
        except (Changed, FileNotFoundError):
            # When the answer to a write is lost, botocore asks again: what then stands in our way is our own.
            with contextlib.suppress(FileNotFoundError):
                head = self._head(name)
                if head["Metadata"].get("write") == write:
                    return str(head["ETag"])
            raise

    def _put(self, name: str, content: bytes, sha256: str, write: str = "", **condition: str) -> str:
        answer = self._client.put_object(
            Bucket=self.bucket,
            Key=self._key(name),
            Body=content,
            ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode(),
            Metadata={"sha256": sha256, **({"write": write} if write else {})},
            **condition,
        )
        return str(answer["ETag"])

    def _get(self, name: str, **asked: str) -> tuple[Mapping[str, Any], bytes]:
        from botocore.exceptions import BotoCoreError

        answer = self._client.get_object(Bucket=self.bucket, Key=self._key(name), **asked)
        try:
            return answer, answer["Body"].read()
        except BotoCoreError as error:
            raise _BrokenOff(str(error)) from None

    def _head(self, name: str) -> Mapping[str, Any]:
        """
        Raises:
            FileNotFoundError: there is no such object.
        """
        with self._asking(name):
            head: Mapping[str, Any] = self._client.head_object(Bucket=self.bucket, Key=self._key(name))
            return head

    def _key(self, name: str) -> str:
        return f"{self.prefix}{checked_name(name)}"

    @contextlib.contextmanager
    def _asking(self, name: str) -> Iterator[None]:
        """Say in the store's own words what S3 answers."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, _BrokenOff) as error:
            if (code := _code(error)) in GONE:
                raise FileNotFoundError(self.at(name)) from None
            if code in CONDITION_FAILED:
                raise Changed(self.at(name)) from None
            if code in DAMAGED_ON_THE_WAY:
                raise StoreUnreachable(f"{self.at(name)}: other bytes arrived than were sent ({code})") from None
            raise StoreUnreachable(f"{self.at(name)}: {error}") from None

    @functools.cached_property
    def _client(self) -> Any:
        # Our own checksum is compared with the metadata, and names the object.
        return client("s3", tries=4, read_timeout=60, max_pool_connections=2 * PARALLEL,
                      response_checksum_validation="when_required")  # fmt: skip


def _stored(head: Mapping[str, Any]) -> Stored:
    return Stored(int(head["ContentLength"]), head["Metadata"].get("sha256"), str(head["ETag"]))


def _is_another(path: Path, plan: Plan) -> bool:
    return sha256_of(path) != plan.sha256


def _code(error: Exception) -> str:
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _is_conflict(error: Exception) -> bool:
    """Another conditional write is under way: S3 wants to be asked again, and botocore does not."""
    return _code(error) in CONFLICT


def _is_broken_off(error: Exception) -> bool:
    return isinstance(error, _BrokenOff)
