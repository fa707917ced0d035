"""A fresh clone with everything set up, in which the documents' commands run as they are written."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.pages import ROOT

ENVIRONMENTS = (".venv-dvc", ".venv-emulators", ".venv-sweeps", ".venv-bench", ".venv-checks")
PATIENCE_S = 120.0


@dataclass
class Workspace:
    """The clone at ``root``.

    ``environment`` is added to each command's, ``settings`` are shell lines that go before it, ``took`` has seconds.
    """

    root: Path
    settings: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    took: list[tuple[str, float]] = field(default_factory=list)

    def run(self, command: str) -> str:
        """What ``command`` printed, run by bash in the clone.

        Raises:
            AssertionError: it did not end with 0; with the end of what it printed.
        """
        began = time.monotonic()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "\n".join([*self.settings, command])],
            cwd=self.root,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        self.took.append((command, time.monotonic() - began))
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def serve(self, command: str, address: str) -> None:
        """Start ``command``, wait until ``address`` answers, and end it as Ctrl-C does.

        Raises:
            AssertionError: it ended by itself, or did not answer in time.
        """
        began = time.monotonic()
        with open(self.root / "var" / "served.log", "wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.root, env=self._environment(), stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        try:
            while not _answers(address):
                assert process.poll() is None, f"{command} ended:\n{log_of(self.root)}"
                assert time.monotonic() - began < PATIENCE_S, f"{command} does not answer:\n{log_of(self.root)}"
                time.sleep(0.2)
            self.took.append((command, time.monotonic() - began))
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    def _environment(self) -> dict[str, str]:
        ours = ("TRAIN__", "TRAINING_ASSETS_", "DAGSTER_HOME")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**kept, "PYTHONPATH": str(self.root), "TRAINING_ASSETS_DVC": str(dvc()), **self.environment}


def log_of(root: Path) -> str:
    return (root / "var" / "served.log").read_text()[-3000:]


def dvc() -> Path:
    return Path(sys.prefix).with_name(".venv-dvc") / "bin" / "dvc"


def fresh_clone(place: Path) -> Workspace:
    """The working tree as it is, committed or not, with the environments of this one."""
    subprocess.run(["git", "clone", "-q", "--shared", str(ROOT), str(place)], check=True)
    changed = subprocess.run(
        ["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, changed):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
        else:
            (place / name).unlink(missing_ok=True)
    _link_environments(place)
    (place / "var").mkdir(exist_ok=True)
    return Workspace(place)


def _link_environments(place: Path) -> None:
    """What is installed here, and newer than what it is made from, so that make has nothing to set up."""
    for name in (".venv", *ENVIRONMENTS):
        here = Path(sys.prefix).with_name(name)
        if (here / "installed").is_file():
            (place / name).mkdir()
            for child in here.iterdir():
                if child.name != "installed":
                    (place / name / child.name).symlink_to(child)
            (place / name / "installed").touch()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as response:  # noqa: S310 - an address of this machine
            return bool(response.status == 200)
    except OSError:
        return False
