"""What the launcher cases launch: nodes that do as they are told, without torch."""

import os
import signal
import sys
import time
from pathlib import Path

from trainer.contract.exit_codes import STOPPED
from trainer.contract.nodes import NODE_VARIABLE


def main(how: str, place: Path) -> int:
    """``finish``: works until a file of that name is in ``place``. ``crash``: then node 1 falls over."""
    node = os.environ.get(NODE_VARIABLE, "0")
    signal.signal(signal.SIGTERM, lambda *_: (Path(place, f"saved-{node}").touch(), sys.exit(STOPPED)))
    with open(place / f"starts-{node}", "a") as starts:
        starts.write(f"{os.getpid()}\n")
    print(f"node {node} is at work", flush=True)
    while not (place / "finish").exists():
        time.sleep(0.05)
    if how == "crash" and node == "1":
        raise RuntimeError("node 1 fell over its own feet")
    if how == "crash":
        time.sleep(600)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
