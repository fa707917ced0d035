"""One instance of an emulated training job: a container is a command with mount and process namespaces of its own."""

import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

ML = Path("/opt/ml")
# $1: what /opt/ml is; then pairs of a directory and where it is mounted, until "--"; then the command.
ENTER = """
mount --bind "$1" /opt/ml; shift
while [ "$1" != -- ]; do mount --bind "$1" "$2"; shift 2; done; shift
exec "$@"
"""
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private")


def why_not() -> str:
    """Why jobs cannot run on this machine; empty where they can."""
    if shutil.which("unshare") is None:
        return "hosts need util-linux's unshare"
    tried = subprocess.run([*NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return f"hosts need mount and process namespaces: {tried.stderr.strip()}" if tried.returncode else ""


class Host:
    """One instance of a job with its one container."""

    def __init__(self, root: Path, mounts: Mapping[Path, str], command: list[str], environment: dict[str, str]) -> None:
        pairs = [part for source, target in mounts.items() for part in (str(source), target)]
        self.process = subprocess.Popen(
            [*NAMESPACES, "sh", "-ec", ENTER, "sh", str(root), *pairs, "--", *command],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.root, self.killed = root, False

    @property
    def exit_code(self) -> int | None:
        code = self.process.poll()
        if code is not None and (code < 0 or self.killed):  # util-linux before 2.39 makes 1 of every signal
            return 128 + signal.SIGKILL
        return code

    def signal(self, number: int) -> None:
        """To the container's first process, which is the child of ``unshare``."""
        self.killed = self.killed or number == signal.SIGKILL
        try:
            for child in psutil.Process(self.process.pid).children():
                child.send_signal(number)
        except psutil.NoSuchProcess:
            return

    def end(self, grace: float) -> None:
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self.process.kill()  # and with it all in its namespace
        self.process.wait()
