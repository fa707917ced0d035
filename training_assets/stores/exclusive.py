"""The two file operations that the stores' promises rest on: a file that is created once, and a lock between processes.

An object store has the first as a conditional put (``If-None-Match: *``); nothing else here depends on a local disk.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from trainer.contract.files import sync_directory

READ_ONLY = 0o444


def create_exclusively(path: Path, content: bytes) -> None:
    """Create ``path`` with ``content``, or leave everything as it is; the file is there whole or not at all.

    Raises:
        FileExistsError: somebody created it before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(READ_ONLY)
        # A rename would replace another writer's file; a link fails when the name is taken.
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``; waits for another holder. The kernel frees the lock of a killed process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
