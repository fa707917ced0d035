"""What makes a checkpoint on disk: its name, its marker, the files that belong to it. Knows nothing of tensors."""

import json
import shutil
from pathlib import Path
from typing import Any

from trainer.contract.files import sha256_of

MARKER = "COMPLETE"
STATE = "state.json"
BEST = "best.pt"
PARTIAL = ".part"


def name_of(global_step: int, epoch: int) -> str:
    """The directory's name: the steps done, and how many epochs were finished (the end of an epoch counts)."""
    return f"step-{global_step:08d}-epoch-{epoch:04d}"


def step_of(name: str) -> int:
    return int(name.split("-")[1])


def passing(names: list[str], keep_last: int, keep_every: int | None) -> list[str]:
    """Which of ``names``, the oldest first, may go: not the newest ``keep_last``, not the permanent ones."""
    return [name for name in names if not is_permanent(name, keep_every)][:-keep_last]


def is_permanent(name: str, keep_every: int | None) -> bool:
    return keep_every is not None and step_of(name) % keep_every == 0


def complete_checkpoints(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob(f"step-*/{MARKER}") if not path.parent.name.endswith(PARTIAL))


def leftovers(root: Path) -> list[Path]:
    """What a killed process began to write or to remove."""
    return [path for path in root.glob("step-*") if path.name.endswith(PARTIAL) or not (path / MARKER).exists()]


def damaged_files(directory: Path, share: slice = slice(None)) -> list[str]:
    """What of the checkpoint's files (in the order of their names, ``share`` of them) is not as its marker says."""
    try:
        files: dict[str, Any] = json.loads((directory / MARKER).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{MARKER} cannot be read: {error}"]
    return [f"{name}: {reason}" for name in sorted(files)[share] if (reason := _damage(directory / name, files[name]))]


def _damage(path: Path, facts: dict[str, Any]) -> str | None:
    if not path.is_file():
        return "missing"
    if path.stat().st_size != facts.get("bytes"):
        return f"{path.stat().st_size} bytes, expected {facts.get('bytes')}"
    return None if sha256_of(path) == facts.get("sha256") else "its sha256 differs"


def described(path: Path) -> dict[str, Any]:
    """What the marker says of a file."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def remove(directory: Path) -> None:
    """Remove a checkpoint."""
    # The marker goes first, so that no half-removed checkpoint counts as complete.
    (directory / MARKER).unlink(missing_ok=True)
    shutil.rmtree(directory)
