"""Whose number a version is: taken before the first file of it is sent, so that nobody waits and nothing is locked."""

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pydantic import BaseModel, ConfigDict

from trainer.contract.files import digest_of
from trainer.contract.manifest import Sha256, Text
from trainer.contract.names import next_version
from training_assets.stores.entries import FileRecord, is_version
from training_assets.stores.objects import ObjectStore

PARALLEL = 16
"""Objects that are read at the same time."""


class Claim(BaseModel):
    """A run with its files (:func:`files_digest`); never changed once it is there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    run_id: Text
    files_digest: Sha256


def files_digest(files: Mapping[str, FileRecord]) -> str:
    return digest_of({name: record.sha256 for name, record in files.items()})


def claimed(archive: ObjectStore, project: str, claim: Claim, versions: Sequence[str]) -> str:
    """The number that ``claim`` has, else the next that nobody has; ``versions`` are those of ``project``, a folder."""
    folder = f"{project}/claims"
    while True:
        taken = numbers(archive, folder)
        claims = read_all(archive, (f"{folder}/{number}.json" for number in taken))
        for number, found in zip(taken, claims, strict=True):
            if Claim.model_validate_json(found) == claim:
                return number
        number = next_version([*versions, *taken])
        try:
            archive.create(f"{folder}/{number}.json", as_json(claim))
        except FileExistsError:
            continue  # another run was faster, or another process of this one
        return number


def numbers(archive: ObjectStore, folder: str) -> list[str]:
    """The versions that ``folder`` has an object for, the oldest first."""
    stems = (name.rpartition("/")[2].removesuffix(".json") for name in archive.list(folder))
    return sorted(filter(is_version, stems), key=lambda version: tuple(map(int, version.split("."))))


def read_all(archive: ObjectStore, names: Iterable[str]) -> list[bytes]:
    with ThreadPoolExecutor(PARALLEL) as pool:
        return [found.content for found in pool.map(archive.read, names)]


def as_json(value: BaseModel) -> bytes:
    text = json.dumps(value.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()
