"""The process that a case kills: it launches, or is a step of Dagster's with all that belongs to it.

python -m tests.training_assets.launchers.ecs_orchestrator <launch|step> <attempt> <directory>
"""

import signal
import sys
import time
from pathlib import Path

from tests.training_assets.launchers.ecs_world import launcher_at, spec_at


def launch(attempt: str, place: Path) -> None:
    """Launches, and dies before it could keep what it launched."""
    launcher_at(place).launch(spec_at(place, attempt))
    (place / "launched").touch()
    time.sleep(600)


def step(attempt: str, place: Path) -> None:
    import dagster as dg

    from training_assets.launchers.session import run_to_end

    run_to_end(dg.build_asset_context(), launcher_at(place), spec_at(place, attempt))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a script starts in the background
    {"launch": launch, "step": step}[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))
