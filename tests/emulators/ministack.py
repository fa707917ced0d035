"""ministack for tests: one process on a free port of this machine, in the environment that ``make setup`` gives it."""

import contextlib
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.contract.ports import free_port

EXECUTABLE = "TRAINING_ASSETS_EMULATORS_PYTHON"
REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0


def python() -> Path:
    return Path(os.environ.get(EXECUTABLE) or REPOSITORY / ".venv-emulators" / "bin" / "python")


@contextlib.contextmanager
def ministack(directory: Path, docker_host: str | None = None, **settings: str) -> Iterator[str]:
    """The address of a ministack of its own; its log is in ``directory``.

    Tasks of its ECS run in the Docker API at ``docker_host``; without any they are RUNNING for ever. ``settings`` are
    environment variables of ministack's.
    """
    if not python().is_file():
        pytest.skip(f"needs ministack: make setup, or {EXECUTABLE}")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "PATH": os.environ["PATH"],
        "BIND_HOST": "127.0.0.1",  # it would listen on every interface
        "GATEWAY_PORT": str(port),
        "HOME": str(directory),
        "DOCKER_HOST": docker_host or f"unix://{directory}/no-docker.sock",
        **settings,
    }
    with open(directory / "ministack.log", "wb") as log:
        process = subprocess.Popen(
            [python(), "-m", "ministack"], env=environment, cwd=directory, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "ministack ended; see its log"
        try:
            urllib.request.urlopen(f"{url}/_ministack/health", timeout=1).close()  # noqa: S310
            return
        except urllib.error.HTTPError:
            return  # it answers
        except OSError:
            time.sleep(0.1)
    raise AssertionError("ministack did not answer in time")
