"""An inbox below a prefix of an S3 bucket. Region and credentials are boto3's own (environment, host role)."""

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from trainer.contract.delivery import FILES, file_digests
from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import CHUNK, OutsideRoot, inside
from training_assets.aws import client
from training_assets.stores.inbox.base import (
    MANIFEST,
    PARALLEL,
    SLICES,
    SUCCESS,
    SUMS,
    DeliveryFound,
    Inbox,
    InboxUnreachable,
    Progress,
    Stat,
    silent,
)

GONE = ("404", "NoSuchKey", "NotFound")
T = TypeVar("T")
R = TypeVar("R")


class S3Inbox(Inbox):
    """The inbox below ``s3://bucket/prefix``; what arrived when is S3's LastModified, in whole seconds.

    An upload in parts has the time at which it began: within ``settle`` seconds it must be done, or a mined slice
    that arrived meanwhile hides it.
    """

    settle = 60.0

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self.bucket, self.prefix = bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = f"s3://{bucket}/{self.prefix}".rstrip("/")

    def fetch(self, found: DeliveryFound, into: Path, progress: Progress = silent) -> Path:
        out = into / f"{found.name}-{found.digest[:12]}"
        if out.is_dir():
            return out
        partial = into / f".{out.name}.partial"
        files = {one["Key"]: one["Size"] for one in self._list(f"{found.name}/") if not one["Key"].endswith("/")}
        targets = {key: self._target(partial, key, f"{found.name}/") for key in files}

        def download(key: str) -> None:
            if not targets[key].is_file() or targets[key].stat().st_size != files[key]:
                self._download(key, targets[key])

        for done, _ in enumerate(_at_once(download, files), start=1):
            progress(done, len(files))
        if (got := file_digests(partial)) != dict(found.digests):
            changed = ", ".join(file for file in got if got[file] != found.digests[file])
            problem = Problem(self._at(found.name), f"another {changed} than a moment ago", "a delivery left as it is")
            raise ContractError("a delivery changed while it was fetched", [problem], "Run it again.")
        partial.replace(out)
        return out

    def slice_manifest(self, name: str, into: Path) -> Path:
        target = into / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}{MANIFEST}"
        self._download(f"{self.prefix}{SLICES}/{name}{MANIFEST}", target)
        return target

    def fetch_slice(self, name: str, references: Iterable[str], into: Path) -> Path:
        key = f"{self.prefix}{SLICES}/{name}{MANIFEST}"
        targets = {f"{self.prefix}{SLICES}/{one}": inside(into, one) for one in references}
        targets[key] = into / f"{name}{MANIFEST}"
        into.mkdir(parents=True, exist_ok=True)
        list(_at_once(lambda key: self._download(key, targets[key]), targets))
        return targets[key]

    def lacking(self, references: Iterable[str]) -> set[str]:
        asked = set(references)
        folders = {str(PurePosixPath(reference).parent) for reference in asked}
        there: set[str] = set()
        for folder in folders:
            prefix = f"{SLICES}/" if folder == "." else f"{SLICES}/{folder}/"
            there |= {self._name(one["Key"], f"{SLICES}/") for one in self._list(prefix, Delimiter="/")}
        return asked - there

    def slice_version(self, name: str) -> str | None:
        try:
            with self._asking(f"{SLICES}/{name}{MANIFEST}"):
                found = self._client.head_object(Bucket=self.bucket, Key=f"{self.prefix}{SLICES}/{name}{MANIFEST}")
        except FileNotFoundError:
            return None
        return str(found["ETag"])

    def _deliveries(self) -> Iterable[tuple[str, dict[str, Stat]]]:
        names = [name for name in self._folders() if name != SLICES and not name.startswith(".")]
        return zip(names, _at_once(self._stats, names), strict=True)

    def _stats(self, name: str) -> dict[str, Stat]:
        return {
            self._name(one["Key"], f"{name}/"): _stat(one)
            for one in self._list(f"{name}/", Delimiter="/")
            if self._name(one["Key"], f"{name}/") in (*FILES, SUCCESS, SUMS)
        }

    def _slices(self) -> Iterator[tuple[str, int]]:
        for one in self._list(f"{SLICES}/", Delimiter="/"):
            name = self._name(one["Key"], f"{SLICES}/")
            if name.endswith(MANIFEST):
                yield name.removesuffix(MANIFEST), _stat(one).arrived

    def _place(self, source: Path, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._asking(name):
            head = self._client.head_object(Bucket=self.bucket, Key=f"{self.prefix}{name}")
            if head["ContentLength"] == source.stat().st_size and source.name not in FILES:
                return
        with self._asking(name):
            self._client.upload_file(str(source), self.bucket, f"{self.prefix}{name}")

    def _sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        with self._asking(name):
            body = self._client.get_object(Bucket=self.bucket, Key=f"{self.prefix}{name}")["Body"]
            for chunk in body.iter_chunks(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def _read(self, name: str) -> bytes:
        with self._asking(name):
            content: bytes = self._client.get_object(Bucket=self.bucket, Key=f"{self.prefix}{name}")["Body"].read()
        return content

    def _write(self, name: str, content: bytes) -> None:
        with self._asking(name):
            self._client.put_object(Bucket=self.bucket, Key=f"{self.prefix}{name}", Body=content)

    def _move(self, name: str, target: str) -> None:
        source = {"Bucket": self.bucket, "Key": f"{self.prefix}{name}"}
        try:
            with self._asking(name):
                self._client.copy_object(Bucket=self.bucket, Key=f"{self.prefix}{target}", CopySource=source)
        except FileNotFoundError:
            return
        with self._asking(name):
            self._client.delete_object(**source)

    def _exists(self, name: str) -> bool:
        return next(iter(self._list(name)), {}).get("Key") == f"{self.prefix}{name}"

    def _folders(self) -> list[str]:
        pages = self._pages(Prefix=self.prefix, Delimiter="/")
        keys = [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", ())]
        return [key.removeprefix(self.prefix).rstrip("/") for key in keys]

    def _list(self, name: str, **asked: str) -> Iterator[dict[str, Any]]:
        """The objects whose names begin with ``name``; with ``Delimiter="/"`` those alone that are directly there."""
        for page in self._pages(Prefix=f"{self.prefix}{name}", **asked):
            yield from page.get("Contents", ())

    def _pages(self, **asked: str) -> Iterator[Mapping[str, Any]]:
        with self._asking():
            yield from self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, **asked)

    def _download(self, key: str, target: Path) -> None:
        # boto3 writes beside the target and renames: a file that is there is whole.
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._asking(self._name(key, "")):
            self._client.download_file(self.bucket, key, str(target))

    def _target(self, root: Path, key: str, prefix: str) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        try:
            return inside(root, self._name(key, prefix))
        except OutsideRoot:
            problem = Problem(f"s3://{self.bucket}", repr(key), "an object whose name is a path inside the delivery")
            raise ContractError("a delivery cannot be fetched", [problem]) from None

    def _name(self, key: str, prefix: str) -> str:
        return key.removeprefix(f"{self.prefix}{prefix}")

    @contextlib.contextmanager
    def _asking(self, name: str = "") -> Iterator[None]:
        """Say in the inbox's own words what S3 answers."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
            if code in GONE:
                raise FileNotFoundError(self._at(name)) from None
            raise InboxUnreachable(f"{self._at(name)}: {error}") from None

    @functools.cached_property
    def _client(self) -> Any:
        return client("s3", tries=3, max_pool_connections=2 * PARALLEL)


def _at_once(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    with ThreadPoolExecutor(PARALLEL) as pool:
        yield from pool.map(function, items)


def _stat(listed: Mapping[str, Any]) -> Stat:
    moment = int(listed["LastModified"].timestamp()) * 10**9
    return Stat(moment, moment, f"{listed['ETag']}-{moment}")
