"""The content of files that FSx knows only by name so far, fetched many at once before it is read one by one.

Lustre fetches a file when it is first read, and whoever reads waits. ``lfs hsm_restore`` has it fetched without a
reader; that wants root, so where the tool is not there or not allowed the files are read here, and what is read is
thrown away. Both only touch files that hold no data: a mistake about that costs time, never a file.
"""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trainer.contract.errors import Problem
from training_assets.stores.fast_storage.base import Amount, Progress, StagingError, stats

READERS = 16
CHUNK = 4 << 20
FILES_A_CALL = 200
"""Paths on one command line of ``lfs``."""
STALLED_SECONDS = 900.0
"""For so long no file may come before the restore counts as stuck."""


def preload(place: Path, wanted: Mapping[str, int], progress: Progress, poll_seconds: float) -> None:
    """Have the content of the files ``wanted`` (relative path → bytes) on the file system.

    Raises:
        StagingError: a file cannot be read, or none comes any more.
    """
    done = _Done(wanted, progress)
    waiting = _hollow(place, list(wanted))
    done.add(wanted.keys() - set(waiting))
    if waiting and not _restored_by_lfs(place, waiting, done, poll_seconds):
        _read_all(place, waiting, done)


class _Done:
    """Counts what is there, and tells."""

    def __init__(self, wanted: Mapping[str, int], progress: Progress) -> None:
        self.wanted, self.progress = wanted, progress
        self.files = self.bytes = 0
        self.of_bytes = sum(wanted.values())
        self._lock = threading.Lock()

    def add(self, names: Iterable[str]) -> None:
        with self._lock:
            for name in names:
                self.files += 1
                self.bytes += self.wanted[name]
            amount = Amount("loaded", self.files, len(self.wanted), self.bytes, self.of_bytes)
        self.progress(amount)


def _hollow(place: Path, names: Sequence[str]) -> list[str]:
    """The files that have a size but no data: Lustre gives a released file at most one block (recalled)."""
    return [name for name, stat in stats(place, names) if stat and stat.st_size > 0 and stat.st_blocks <= 1]


def _restored_by_lfs(place: Path, waiting: Sequence[str], done: _Done, poll_seconds: float) -> bool:
    """Whether ``lfs`` did it: False where it is not there, or may not."""
    lfs = shutil.which("lfs")
    if lfs is None:
        return False
    for begin in range(0, len(waiting), FILES_A_CALL):
        paths = [str(place / name) for name in waiting[begin : begin + FILES_A_CALL]]
        asked = subprocess.run([lfs, "hsm_restore", *paths], stdin=subprocess.DEVNULL, capture_output=True)  # noqa: S603
        if asked.returncode:
            return False
    moved, left = time.monotonic(), list(waiting)
    while left:
        still = _hollow(place, left)
        if len(still) < len(left):
            moved = time.monotonic()
            done.add(set(left) - set(still))
        elif time.monotonic() - moved > STALLED_SECONDS:
            found = f"{len(left)} files without content, none came for {STALLED_SECONDS:.0f} s; the first: {left[0]}"
            raise StagingError(
                "a restore is stuck", [Problem(str(place), found, "their content")], "See FSx's event log."
            )
        left = still
        if left:
            time.sleep(poll_seconds)
    return True


def _read_all(place: Path, names: Sequence[str], done: _Done) -> None:
    stopped = threading.Event()

    def read(name: str) -> None:
        with open(place / name, "rb", buffering=0) as stream:
            while not stopped.is_set() and stream.read(CHUNK):
                pass
        done.add([name])

    with ThreadPoolExecutor(READERS) as pool:
        try:
            for _ in pool.map(read, names):
                pass
        except OSError as error:
            stopped.set()
            problem = Problem(str(error.filename or place), error.strerror or str(error), "a file that can be read")
            advice = "The file system could not fetch it from S3: see the association's state and the bucket's policy."
            raise StagingError("a file cannot be loaded", [problem], advice) from None
        except BaseException:
            stopped.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
