"""Registers or promotes one model in a process of its own; with a moment named, it is killed exactly there.

``python register_once.py STORE ARCHIVE register DRAFT.json FILES_DIR [claim|file|entry]``
``python register_once.py STORE ARCHIVE promote PROJECT VERSION BY MEETING``
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from trainer.contract.errors import ContractError
from training_assets.stores.entries import Draft
from training_assets.stores.objects import ObjectStore, store_at
from training_assets.stores.registry import Registry

WRITERS = 2


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(store: str, archive: str, what: str, *arguments: str) -> None:
    registry = Registry(Path(store), store_at(archive))
    if what == "register":
        register(registry, *arguments)
    else:
        promote(registry, *arguments)


def register(registry: Registry, draft: str, directory: str, moment: str = "") -> None:
    kill_at(registry.archive, moment)
    files = {path.name: path for path in sorted(Path(directory).iterdir())}
    print(registry.register(Draft.model_validate_json(Path(draft).read_bytes()), files).version)


def kill_at(archive: ObjectStore, moment: str) -> None:
    """Just after the claim, between two files, just before the entry."""
    create, upload, sent = archive.create, archive.upload, []

    def created(name: str, content: bytes) -> str:
        if moment == "entry" and "/versions/" in name:
            die()
        version = create(name, content)
        if moment == "claim" and "/claims/" in name:
            die()
        return version

    def uploaded(path: Path, name: str) -> Any:
        sent.append(name)
        if moment == "file" and len(sent) == 2:
            die()
        return upload(path, name)

    archive.create, archive.upload = created, uploaded  # type: ignore[method-assign]


def promote(registry: Registry, project: str, version: str, by: str, meeting: str) -> None:
    """Write only once all writers have seen where the alias points."""
    newest = registry.newest

    def seen(*names: str) -> Any:
        found = newest(*names)
        (Path(meeting) / by).touch()
        while len(list(Path(meeting).iterdir())) < WRITERS:
            time.sleep(0.005)
        return found

    registry.newest = seen  # type: ignore[method-assign]
    try:
        print("won", registry.promote(project, version, by=by).sequence)
    except ContractError as error:
        print("lost", error)


if __name__ == "__main__":
    main(*sys.argv[1:])
