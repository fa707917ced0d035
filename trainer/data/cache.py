"""Decoded images on local disk, for the later epochs: shared by the loader workers and ranks of a node.

One file for each data set, ``<temporary directory>/training-assets-<uid>/<key>.pixels``: a table with an entry for
each sample, then the pixels in the order in which they came. An entry is written once its pixels are, and carries a
checksum of itself, so a process killed at any moment leaves at most some bytes that nobody reads. The key holds the
shards' digests and the boot: pixels that a power cut may have lost are never looked at again. Where the cache cannot
be had or is full, images are decoded; nothing but the time depends on it.

The pages belong to the kernel, which drops them when memory is short. A rank that ends takes the file's name away,
those still at work keep the file. That of a killed training is used again for the same data, or removed by the next
training on the node.
"""

import atexit
import contextlib
import fcntl
import os
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from trainer.contract.files import digest_of

ENTRY = struct.Struct("<QIII")  # offset, height, width, checksum of these and the sample's number
SUFFIX = ".pixels"
SHARE_OF_FREE_SPACE = 0.5


class PixelCache:
    """Images (H×W×3 uint8) by sample number, at most ``budget`` bytes of them."""

    def __init__(self, keys: Sequence[str], samples: int, budget: int, directory: Path | None = None) -> None:
        self.samples, self.budget = samples, budget
        self._directory = directory
        self._name = digest_of({"boot": _boot(), "opencv": cv2.__version__, "shards": list(keys)})[:32] + SUFFIX
        self._table = samples * ENTRY.size
        self._file: int | None = None
        self._owner: int | None = None
        self._limit = 0
        # Loader workers leave without this: only the rank that made them takes the name away.
        atexit.register(self._forget)

    def get(self, sample: int) -> np.ndarray | None:
        """The sample's image, or None if it is not there."""
        file = self._open()
        if file is None:
            return None
        with contextlib.suppress(OSError):
            entry = self._entry(file, sample)
            if entry is not None:
                offset, height, width = entry
                pixels = np.empty((height, width, 3), np.uint8)
                if os.preadv(file, [pixels.data], offset) == pixels.nbytes:
                    return pixels
        return None

    def put(self, sample: int, image: np.ndarray) -> None:
        """Keep ``image`` if there is room; a failure to write is no failure of the training."""
        file = self._open()
        if file is None or self._limit == 0:
            return
        try:
            with _locked(file):
                offset = max(os.fstat(file).st_size, self._table)
                if offset + image.nbytes > self._limit:
                    self._limit = 0
                    return
                if os.pwrite(file, np.ascontiguousarray(image).data, offset) != image.nbytes:
                    raise OSError("the disk is full")
            place = ENTRY.pack(offset, *image.shape[:2], 0)[:-4]
            os.pwrite(file, place + struct.pack("<I", _checksum(sample, place)), sample * ENTRY.size)
        except OSError:
            self._limit = 0

    def _entry(self, file: int, sample: int) -> tuple[int, int, int] | None:
        raw = os.pread(file, ENTRY.size, sample * ENTRY.size)
        if len(raw) < ENTRY.size:
            return None
        offset, height, width, checksum = ENTRY.unpack(raw)
        whole = offset >= self._table and checksum == _checksum(sample, raw[:-4])
        return (offset, height, width) if whole else None

    def _open(self) -> int | None:
        """This process' descriptor of the file: record locks and offsets are not shared with a parent's."""
        if self._owner != os.getpid():
            self._owner, self._file, self._limit = os.getpid(), None, 0
            with contextlib.suppress(OSError):
                self._file = self._take(_private(self._directory))
        return self._file

    def _take(self, directory: Path) -> int:
        path = directory / self._name
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        # A shared lock says that the file is in use; the kernel gives it back when its last holder is gone.
        fcntl.flock(file, fcntl.LOCK_SH)
        _sweep(directory, self._name)
        free = int(shutil.disk_usage(directory).free * SHARE_OF_FREE_SPACE)
        self._limit = self._table + min(self.budget, free)
        return file

    def _forget(self) -> None:
        with contextlib.suppress(OSError):
            (_private(self._directory) / self._name).unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(file: int) -> Iterator[None]:
    # A record lock: unlike flock it holds between a process and its own forks, and ends with the process.
    fcntl.lockf(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN)


def _checksum(sample: int, place: bytes) -> int:
    return zlib.crc32(place, sample + 1)


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"pid {os.getpid()}"


def _private(directory: Path | None) -> Path:
    """The directory of the caches, which nobody else may write into.

    Raises:
        PermissionError: it belongs to somebody else.
    """
    path = directory or Path(tempfile.gettempdir()) / f"training-assets-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if found.st_uid != os.getuid() or path.is_symlink() or found.st_mode & 0o022:
        raise PermissionError(f"{path} is not this user's alone")
    return path


def _sweep(directory: Path, own: str) -> None:
    """Remove what trainings that were killed left behind: files that no process holds."""
    for path in directory.glob(f"*{SUFFIX}"):
        if path.name == own:
            continue
        with contextlib.suppress(OSError), open(path, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
