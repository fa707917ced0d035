"""``ui``: Dagster's web page and daemon take this process's place."""

import argparse
import os
import signal
import sys
from pathlib import Path

from trainer.terminal.commands import Command, Example


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=3000, metavar="N", help="on 127.0.0.1 (default 3000)")


def _ui(arguments: argparse.Namespace) -> int:
    from training_assets.home import prepare_home
    from training_assets.profiles import REPOSITORY

    home = prepare_home()
    print(f"http://127.0.0.1:{arguments.port} (storage in {home}; Ctrl-C ends it)", flush=True)
    os.chdir(REPOSITORY)
    # Started in the background by a script, SIGINT is ignored, and Dagster takes SIGTERM to be like it: unstoppable.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    dagster = str(Path(sys.executable).with_name("dagster"))
    os.execv(dagster, [dagster, "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(arguments.port)])  # noqa: S606


UI = Command(
    "ui",
    "Open Dagster's web page on this code location and storage, with its daemon.",
    run=_ui,
    add=_add,
    examples=(Example("ui"), Example("ui --port 3333", "beside another one")),
    answers=False,
)
