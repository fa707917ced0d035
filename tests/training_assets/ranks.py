"""What the launcher tests launch: ranks that do as they are told, without torch's own start-up."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(how: str, place: str) -> int:
    rank = os.environ.get("RANK", "0")
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
    if how == "polite":
        signal.signal(signal.SIGTERM, lambda *_: (Path(place, f"saved-{rank}").touch(), sys.exit(75)))
    if how == "orphan":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        return 0
    Path(place, f"rank-{rank}").write_text(os.environ.get("OMP_NUM_THREADS", ""))
    print(f"rank {rank} is {how}", flush=True)
    if how == "crash" and rank == "1":
        raise RuntimeError("rank 1 fell over its own feet")
    if how == "refuse":
        print("error: field 'x': found 1, expected 2", file=sys.stderr)
        return 2
    if how == "environment":
        print("\n".join(f"{name}={value}" for name, value in os.environ.items()), flush=True)
        return 0
    if how == "fine":
        return 0
    while how == "patient" and not Path(place, "go").exists():
        time.sleep(0.05)
    if how == "patient":
        return int(Path(place, "go").read_text() or 0)
    time.sleep(600)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
