"""What was brought and when it was last asked for, where the file system itself cannot give it back to S3."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

NOTES = ".brought"
DAY = 86_400.0


@dataclass(frozen=True)
class Brought:
    """Notes below ``root``: an empty file for each place that was brought, its time that of the last use."""

    root: Path

    def note(self, place: Path) -> None:
        path = self._notes / quote(place.resolve().relative_to(self.root.resolve()).as_posix(), safe="")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path)

    def remove_unused(self, days: int) -> list[Path]:
        """Delete what nobody asked for in so many days; returns which places."""
        before, gone = time.time() - days * DAY, []
        for path in sorted(self._notes.glob("*")):
            if path.stat().st_mtime <= before:
                place = self.root / unquote(path.name)
                shutil.rmtree(place, ignore_errors=True)
                # The note last: killed in between, it is done again.
                path.unlink()
                gone.append(place)
        return gone

    @property
    def _notes(self) -> Path:
        return self.root / NOTES
