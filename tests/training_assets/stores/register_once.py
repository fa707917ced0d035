"""Registers one model in a process of its own; with a moment named, it is killed exactly there.

``python register_once.py STORE DRAFT.json FILES_DIR [link|rename]``
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from training_assets.stores import exclusive
from training_assets.stores.entries import Draft
from training_assets.stores.registry import Registry


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


store, draft, directory = (Path(argument) for argument in sys.argv[1:4])
moment = sys.argv[4] if len(sys.argv) > 4 else ""
if moment == "link":
    exclusive.os.link = die
if moment == "rename":
    Path.rename = die  # type: ignore[method-assign, assignment]
files = {path.name: path for path in sorted(directory.iterdir())}
print(Registry(store).register(Draft.model_validate_json(draft.read_bytes()), files).version)
