"""Dagster's real processes for tests: daemon, code server, run workers and web server, on a home of the test's own."""

import json
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

from trainer.contract.ports import free_port

ROOT = Path(__file__).parents[2]
PRETENDING = {
    "load_from": [
        {
            "python_module": {
                "module_name": "tests.training_assets.pretending",
                "location_name": "training_assets",
                "working_directory": str(ROOT),
            }
        }
    ]
}


def prepare_home(home: Path, max_concurrent_runs: int) -> None:
    """The shipped settings, but lost runs are looked for more often."""
    settings = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())
    settings["run_monitoring"] |= {"poll_interval_seconds": 2, "free_slots_after_run_end_seconds": 1}
    settings["concurrency"]["runs"]["max_concurrent_runs"] = max_concurrent_runs
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))


def pretending_workspace(path: Path) -> Path:
    """The workspace of the code location whose trainer only pretends."""
    path.write_text(yaml.safe_dump(PRETENDING))
    return path


class Daemon:
    """``dagster-daemon run`` with its code server and run workers; what a training launched is not among them.

    It looks after backfills every ``backfill_seconds`` and after sensors every ``sensor_seconds`` (Dagster's own 30
    and 5 have no setting). What it prints goes into ``log``.
    """

    def __init__(
        self, workspace: Path, backfill_seconds: int = 30, sensor_seconds: int = 5, log: Path | None = None
    ) -> None:
        faster = f"import dagster._daemon.controller as c; c.DEFAULT_DAEMON_INTERVAL_SECONDS = {backfill_seconds}; "
        faster += f"import dagster._daemon.sensor as s; s.MIN_INTERVAL_LOOP_TIME = {sensor_seconds}; "
        start = "from dagster._daemon.cli import main; main()"
        self.process = _started(log, "python", "-c", faster + start, "run", "-w", str(workspace))

    def kill(self) -> None:
        _kill(self.process)

    def close(self) -> None:
        _close(self.process)


class WebServer:
    """``dagster-webserver``: what people look at. What it prints goes into ``log``."""

    def __init__(self, workspace: Path, log: Path | None = None) -> None:
        self.port = free_port()
        self.process = _started(log, "dagster-webserver", "-w", str(workspace), "-h", "127.0.0.1", "-p", str(self.port))

    def ask(self, query: str) -> dict[str, Any]:
        """The ``data`` of the answer to a GraphQL query; empty as long as nobody answers."""
        body = json.dumps({"query": query}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own server
                return json.load(answer)["data"] or {}
        except OSError:
            return {}

    def kill(self) -> None:
        _kill(self.process)

    def close(self) -> None:
        _close(self.process)


def _started(log: Path | None, command: str, *arguments: str) -> psutil.Popen:
    executable = str(Path(sys.executable).with_name(command))
    with open(log or os.devnull, "ab") as output:
        return psutil.Popen([executable, *arguments], cwd=ROOT, start_new_session=True, stdout=output, stderr=output)


def _kill(process: psutil.Popen) -> None:
    """As a power cut does, all at once."""
    everything = [process, *process.children(recursive=True)]
    for one in [one for one in everything if not launched(one)]:
        one.kill()
    process.wait()


def _close(process: psutil.Popen) -> None:
    if process.is_running():
        everything = [process, *process.children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(everything, timeout=15)
        for one in left:
            one.kill()


def launched(process: psutil.Process, below: str = "") -> bool:
    """Whether it belongs to a training, in a directory ``below`` this one."""
    try:
        return "TRAINING_ASSETS_ATTEMPT" in process.environ() and process.cwd().startswith(below)
    except (psutil.Error, OSError):
        return False


def until(condition: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)
    return found
