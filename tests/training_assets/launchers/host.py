"""What the SageMaker cases launch on each host: says where it is, then does as it is told, without torch."""

import json
import os
import signal
import sys
import time
from pathlib import Path

RESOURCES = Path("/opt/ml/input/config/resourceconfig.json")


def main(how: str, place: Path) -> int:
    host = json.loads(RESOURCES.read_text())["current_host"]
    with open(place / "starts", "a") as starts:
        starts.write(f"{host} {os.environ['TRAINING_ASSETS_ATTEMPT']} {place}\n")
    if how == "polite":
        signal.signal(signal.SIGTERM, lambda *_: ((place / f"saved-{host}").touch(), sys.exit(75)))
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(f"{host} is {how}", flush=True)
    if how == "crash" and host == "algo-2":
        raise RuntimeError("algo-2 fell over its own feet")
    if how == "refuse":
        return 2
    if how == "environment":
        (place / f"environment-{host}.json").write_text(json.dumps(dict(os.environ)))
    if how in ("fine", "environment"):
        return 0
    time.sleep(600)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
