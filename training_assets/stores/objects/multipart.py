"""A file sent to S3 in parts, so that a killed upload goes on where it was, from any machine.

``<prefix>.uploads/<digest of the key>.json`` names the key's last upload and the sha256 of its file. It is never
deleted here, so that nobody needs the right to delete; these notes, and uploads that nobody takes up again, are the
bucket's to remove (life-cycle rules).
"""

import base64
import contextlib
import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.contract.files import CHUNK

PARALLEL = 4
MOST_PARTS = 10_000
MIB = 1 << 20


@dataclass(frozen=True)
class Plan:
    """How a file is sent: parts of ``part_bytes``, the last one shorter, each with its sha256 as S3 writes it."""

    path: Path
    bytes: int
    sha256: str
    part_bytes: int
    parts: tuple[str, ...]

    def length(self, number: int) -> int:
        """Bytes of part ``number``, counted from 1."""
        return min(self.part_bytes, self.bytes - (number - 1) * self.part_bytes)


def plan_of(path: Path, part_bytes: int) -> Plan:
    """The plan for ``path``, which is read once; parts are longer where there would be too many."""
    size = path.stat().st_size
    while size > part_bytes * MOST_PARTS:
        part_bytes *= 2
    whole, parts = hashlib.sha256(), []
    with open(path, "rb") as stream:
        for _ in range(0, max(size, 1), part_bytes):
            part, left = hashlib.sha256(), part_bytes
            while left and (chunk := stream.read(min(CHUNK, left))):
                whole.update(chunk)
                part.update(chunk)
                left -= len(chunk)
            parts.append(base64.b64encode(part.digest()).decode())
    return Plan(path, size, whole.hexdigest(), part_bytes, tuple(parts))


class Multipart:
    """One upload. botocore's errors come through."""

    def __init__(self, client: Any, bucket: str, key: str, prefix: str, plan: Plan) -> None:
        self.client, self.plan = client, plan
        self.target = {"Bucket": bucket, "Key": key}
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        self.journal = {"Bucket": bucket, "Key": f"{prefix}.uploads/{digest}.json"}

    def send(self) -> None:
        """Send what is missing, then make an object of the parts. What arrived before is not sent again."""
        upload, tags = self._begun()
        missing = [number for number in range(1, len(self.plan.parts) + 1) if number not in tags]
        with ThreadPoolExecutor(PARALLEL) as pool:
            tags |= zip(missing, pool.map(lambda number: self._send_part(upload, number), missing), strict=True)
        self._complete(upload, tags)

    def _begun(self) -> tuple[str, dict[int, str]]:
        """The upload to go on with, and the tags of the parts that it has."""
        known = self._read_journal()
        if known and (known["sha256"], known["part_bytes"]) == (self.plan.sha256, self.plan.part_bytes):
            tags = self._arrived(known["upload"])
            if tags is not None:
                return known["upload"], tags
        elif known:  # under way, or long over
            with contextlib.suppress(self.client.exceptions.NoSuchUpload):
                self.client.abort_multipart_upload(**self.target, UploadId=known["upload"])
        return self._start(), {}

    def _start(self) -> str:
        answer = self.client.create_multipart_upload(
            **self.target, ChecksumAlgorithm="SHA256", Metadata={"sha256": self.plan.sha256}
        )
        upload = str(answer["UploadId"])
        note = {"key": self.target["Key"], "upload": upload, "sha256": self.plan.sha256}
        body = json.dumps({**note, "part_bytes": self.plan.part_bytes}).encode()
        # Before the first part: killed here, the next try finds all that arrived.
        self.client.put_object(**self.journal, Body=body)
        return upload

    def _read_journal(self) -> Mapping[str, Any] | None:
        try:
            note: Mapping[str, Any] = json.loads(self.client.get_object(**self.journal)["Body"].read())
        except self.client.exceptions.NoSuchKey:
            return None
        return note

    def _arrived(self, upload: str) -> dict[int, str] | None:
        """The tags of the parts that S3 has; None where the upload is no longer known."""
        pages = self.client.get_paginator("list_parts").paginate(**self.target, UploadId=upload)
        try:
            parts = [part for page in pages for part in page.get("Parts", ())]
        except self.client.exceptions.NoSuchUpload:
            return None
        return {
            part["PartNumber"]: part["ETag"] for part in parts if part["Size"] == self.plan.length(part["PartNumber"])
        }

    def _send_part(self, upload: str, number: int) -> str:
        with open(self.plan.path, "rb") as stream:
            stream.seek((number - 1) * self.plan.part_bytes)
            content = stream.read(self.plan.length(number))
        answer = self.client.upload_part(
            **self.target,
            UploadId=upload,
            PartNumber=number,
            Body=content,
            ChecksumSHA256=self.plan.parts[number - 1],
        )
        return str(answer["ETag"])

    def _complete(self, upload: str, tags: Mapping[int, str]) -> None:
        parts = [
            {"PartNumber": number, "ETag": tags[number], "ChecksumSHA256": checksum}
            for number, checksum in enumerate(self.plan.parts, start=1)
        ]
        # Another process that sent the same file may have been the first: the caller looks at what is there.
        with contextlib.suppress(self.client.exceptions.NoSuchUpload):
            self.client.complete_multipart_upload(
                **self.target, UploadId=upload, MultipartUpload={"Parts": parts}, MpuObjectSize=self.plan.bytes
            )
