"""DVC as the way: a pinned version is pulled onto the fast storage, and stays there for all steps that read it."""

import contextlib
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from training_assets.stores.dvc import DvcStore, Pin
from training_assets.stores.exclusive import locked
from training_assets.stores.fast_storage.base import Amount, Progress, silent
from training_assets.stores.fast_storage.brought import Brought

SCHEME = "dvc:"
TICK = 5.0


class PulledWithDvc:
    """Versions below ``into``; a pull takes its name only when it is whole."""

    def __init__(self, dvc: DvcStore, into: Path, tick: float = TICK) -> None:
        self.dvc, self.into, self.tick = dvc, into, tick

    def brings(self, source: str) -> bool:
        return source.startswith(SCHEME)

    def bring(self, source: str, progress: Progress = silent) -> Path:
        pin = self.dvc.pinned(source.removeprefix(SCHEME))
        place = self.into / pin.version
        # Another process that pulls the same is waited for, and then there is nothing left to do.
        with locked(self.into / f".{pin.version}.lock"):
            if not place.is_dir():
                for left in self.into.glob(f".{pin.version}-*"):  # of a pull that was killed
                    shutil.rmtree(left)
                with self._told(pin, progress):
                    self.dvc.restore(pin.version, place)
            Brought(self.into).note(place)
        progress(Amount("pulled", pin.files, pin.files, pin.bytes, pin.bytes))
        return place

    def export(self, place: Path, progress: Progress = silent) -> str | None:
        """A version is in the remote before it can be pulled; nothing else is DVC's."""
        return None

    def release(self, unused_days: int, progress: Progress = silent) -> None:
        gone = Brought(self.into).remove_unused(unused_days)
        progress(Amount("versions taken away, files", len(gone), len(gone)))

    @contextlib.contextmanager
    def _told(self, pin: Pin, progress: Progress) -> Iterator[None]:
        """Meanwhile count what DVC has fetched so far: it says nothing itself."""
        ended = threading.Event()

        def count() -> None:
            while not ended.wait(self.tick):
                sizes = [size for left in self.into.glob(f".{pin.version}-*") for size in _sizes_below(left / ".dvc")]
                progress(Amount("pulled", len(sizes), pin.files, sum(sizes), pin.bytes))

        thread = threading.Thread(target=count, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _sizes_below(directory: Path) -> Iterator[int]:
    with contextlib.suppress(FileNotFoundError):  # DVC takes its cache away at the end
        for path in directory.glob("cache/files/md5/??/*"):
            yield path.stat().st_size
