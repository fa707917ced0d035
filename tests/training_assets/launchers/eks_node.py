"""What a node of the EKS cases runs: no torch, a role for each node, a mark in the run directory for each start.

``python -m eks_node ROLE PLACE``: ``fine`` · ``crash`` (node 1 falls over, the others wait) · ``polite`` (saves when
told to stop) · ``stubborn`` (does not hear it, nor do its children) · ``wait`` (until PLACE/go is there).
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

SAVED = 75


def main(role: str, place: Path) -> int:
    node = int(os.environ["JOB_COMPLETION_INDEX"])
    if role == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
    if role in ("polite", "crash", "wait"):
        signal.signal(signal.SIGTERM, lambda *_: (Path(place, f"saved-{node}").touch(), os._exit(SAVED)))
    Path(place, f"started-{node}-{uuid4().hex[:8]}").touch()
    print(f"node {node} is {role}", flush=True)
    if role == "crash" and node == 1:
        print("node 1 fell over its own feet", flush=True)
        return 1
    while role != "fine" and not (role == "wait" and Path(place, "go").exists()):
        time.sleep(0.05)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
