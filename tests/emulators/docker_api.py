"""A Docker API whose containers are processes of this machine, so that an emulator's tasks execute for real.

It speaks what docker-py asks on behalf of ministack: images that are known by name or not, and containers that are
created, started, inspected, waited for, logged, stopped, killed and removed. No isolation: a container's command runs
as it is, in a session of its own, with the ``PATH`` given here and the environment that it was created with.

    python -m tests.emulators.docker_api --port 2375 --images trainer:1
    python -m tests.emulators.docker_api --socket /tmp/docker.sock
"""

import argparse
import contextlib
import datetime
import http.server
import json
import os
import re
import signal
import socketserver
import struct
import subprocess
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

NEVER = "0001-01-01T00:00:00Z"
VERSION = {"Version": "26.0", "ApiVersion": "1.44", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"}
STDOUT_FRAME = struct.Struct(">BxxxL")
ACTION = re.compile(r"/containers/([^/]+)(?:/(\w+))?")


class Container:
    """One process with what it started. ``exit_code`` as Docker has it: 128 + N for signal N."""

    def __init__(self, name: str, body: dict[str, Any], log: Path, path: str) -> None:
        self.id, self.body, self.log, self.path = uuid4().hex * 2, body, log, path
        self.name = name or self.id[:12]
        self.created, self.started, self.finished = _now(), NEVER, NEVER
        self.status, self.exit_code = "created", 0
        self.ended = threading.Event()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        return dict(one.split("=", 1) for one in self.body.get("Env") or [])

    def start(self) -> None:
        command = [*(self.body.get("Entrypoint") or []), *(self.body.get("Cmd") or [])]
        environment = {"PATH": self.path, "HOME": tempfile.gettempdir(), **self.environment}
        self.started = _now()
        with open(self.log, "wb") as log:
            try:
                self.process = subprocess.Popen(
                    command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
            except OSError as error:
                log.write(f"{error}\n".encode())
                return self._end(127)
        self.status = "running"
        threading.Thread(target=self._reap, daemon=True).start()
        return None

    def signal(self, number: int) -> None:
        """To the first process alone, as Docker does."""
        if self.process is not None and not self.ended.is_set():
            self.process.send_signal(number)

    def stop(self, seconds: float) -> None:
        self.signal(signal.SIGTERM)
        if not self.ended.wait(seconds):
            self.kill()

    def kill(self) -> None:
        """With all that it started, as the kernel ends a container whose first process is gone."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process is not None:
            self.ended.wait()

    def processes(self) -> list[psutil.Process]:
        if self.process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)]
        return []

    def inspect(self) -> dict[str, Any]:
        state = {
            "Status": self.status, "Running": self.status == "running", "Pid": self.process.pid if self.process else 0,
            "ExitCode": self.exit_code, "StartedAt": self.started, "FinishedAt": self.finished,
        }  # fmt: skip
        config = {name: self.body.get(name) for name in ("Image", "Env", "Cmd")}
        return {
            "Id": self.id, "Name": f"/{self.name}", "Created": self.created, "Image": self.body.get("Image"),
            "Config": {**config, "Labels": self.body.get("Labels") or {}, "Tty": False},
            "HostConfig": {"LogConfig": {"Type": "json-file"}, **(self.body.get("HostConfig") or {})},
            "State": state,
            "NetworkSettings": {"Networks": {"host": {"IPAddress": "127.0.0.1"}}, "Ports": {}},
        }  # fmt: skip

    def output(self, follow: bool) -> Iterator[bytes]:
        """Whole lines of its log, until it has ended where ``follow`` says so."""
        begin = 0
        while True:
            last = self.ended.is_set()  # asked before reading: what came before the end is read after it
            content = self.log.read_bytes()[begin:] if self.log.exists() else b""
            content = content if last else content[: content.rfind(b"\n") + 1]
            begin += len(content)
            yield from content.splitlines(keepends=True)
            if last or not follow:
                return
            time.sleep(0.05)

    def _reap(self) -> None:
        assert self.process is not None
        code = self.process.wait()
        self._end(code if code >= 0 else 128 - code)

    def _end(self, code: int) -> None:
        self.exit_code, self.status, self.finished = code, "exited", _now()
        self.ended.set()


class DockerApi:
    """The containers and the server. ``images``: names that can be pulled, None: any."""

    def __init__(self, directory: Path, images: Sequence[str] | None = None, path: str | None = None) -> None:
        self.directory, self.images = directory, images
        self.path = path or os.environ["PATH"]
        self.containers: dict[str, Container] = {}
        self.may_start = threading.Event()
        """Cleared: containers are created, and begin to run once it is set again."""
        self.may_start.set()

    def knows(self, image: str | None) -> bool:
        return self.images is None or image in self.images

    def create(self, name: str, body: dict[str, Any]) -> Container:
        container = Container(name, body, self.directory / f"{uuid4().hex}.log", self.path)
        self.containers[container.id] = container
        return container

    def find(self, name: str) -> Container | None:
        every = list(self.containers.values())
        return next((one for one in every if one.id.startswith(name) or one.name == name), None)

    def running(self) -> list[Container]:
        return [container for container in list(self.containers.values()) if container.status == "running"]

    @contextlib.contextmanager
    def serve(self, port: int = 0, socket: Path | None = None) -> Iterator[str]:
        """Its ``DOCKER_HOST``, while it serves; ends all containers afterwards."""
        handler = type("BoundHandler", (Handler,), {"api": self})
        server: socketserver.BaseServer
        if socket is not None:
            server, host = UnixServer(str(socket), handler), f"unix://{socket}"
        else:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
            host = f"tcp://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield host
        finally:
            self.may_start.set()
            for container in list(self.containers.values()):
                container.kill()
            server.shutdown()
            server.server_close()


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("unix", 0)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: DockerApi

    def handle_one(self) -> None:
        url = urllib.parse.urlparse(self.path)
        path, query = re.sub(r"^/v[\d.]+", "", url.path), dict(urllib.parse.parse_qsl(url.query))
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}") if length else {}
        if path.startswith("/images/"):
            return self._image(path, query)
        if path == "/containers/create":
            return self._create(query, body)
        if path == "/containers/json":
            return self._answer(200, [self._listed(one) for one in list(self.api.containers.values())])
        if match := ACTION.fullmatch(path):
            return self._container(match[1], match[2] or "", query)
        fixed = {"/_ping": "OK", "/version": VERSION, "/info": {"OSType": "linux", "Architecture": "x86_64"}}
        if path in fixed:
            return self._answer(200, fixed[path])
        return self._answer(200, []) if path.startswith("/networks") else self._missing(f"{self.command} {path}")

    do_GET = do_POST = do_DELETE = do_HEAD = handle_one

    def _image(self, path: str, query: dict[str, str]) -> None:
        if path == "/images/create":
            name = f"{query.get('fromImage')}"
            tag = query.get("tag", "")
            full = f"{name}@{tag}" if ":" in tag else f"{name}:{tag}"
            known = self.api.knows(name) or self.api.knows(full)
            return self._answer(200, {"status": "pulled"}) if known else self._missing(f"pull access denied for {full}")
        name = urllib.parse.unquote(path.removeprefix("/images/").removesuffix("/json"))
        if not self.api.knows(name):
            return self._missing(f"No such image: {name}")
        return self._answer(200, {"Id": f"sha256:{0:064}", "RepoTags": [name], "Config": {}})

    def _create(self, query: dict[str, str], body: dict[str, Any]) -> None:
        if not self.api.knows(body.get("Image")):
            return self._missing(f"No such image: {body.get('Image')}")
        return self._answer(201, {"Id": self.api.create(query.get("name", ""), body).id, "Warnings": []})

    def _container(self, name: str, action: str, query: dict[str, str]) -> None:
        container = self.api.find(name)
        if container is None:
            return self._missing(f"No such container: {name}")
        if action in ("logs", "attach"):
            return self._stream(
                container, follow=action == "attach" or query.get("follow", "") in ("1", "true", "True")
            )
        if action == "json":
            return self._answer(200, container.inspect())
        if action == "wait":
            container.ended.wait()
            return self._answer(200, {"StatusCode": container.exit_code})
        if action == "start":
            self.api.may_start.wait()
            container.start()
        elif action == "stop":
            container.stop(float(query.get("t", 10)))
        elif action == "kill":
            container.signal(signal.Signals[f"SIG{query.get('signal', 'KILL').removeprefix('SIG')}"])
        elif self.command == "DELETE":
            container.kill()
            self.api.containers.pop(container.id, None)
        return self._answer(204)

    @staticmethod
    def _listed(container: Container) -> dict[str, Any]:
        return {"Id": container.id, "Names": [f"/{container.name}"], "Image": container.body.get("Image"),
                "State": container.status, "Labels": container.body.get("Labels") or {}}  # fmt: skip

    def _stream(self, container: Container, follow: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.docker.raw-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for line in container.output(follow):
            self.wfile.write(STDOUT_FRAME.pack(1, len(line)) + line)
            self.wfile.flush()

    def _missing(self, what: str) -> None:
        self._answer(404, {"message": what})

    def _answer(self, status: int, value: object = None) -> None:
        body = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "client"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1 (0: a free one)")
    parser.add_argument("--socket", type=Path, help="a Unix socket instead")
    parser.add_argument("--images", nargs="*", help="names that can be pulled; without it any can")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        api = DockerApi(Path(directory), given.images)
        with api.serve(given.port, given.socket) as host, contextlib.suppress(KeyboardInterrupt):
            print(f"DOCKER_HOST={host}", flush=True)
            signal.pause()


if __name__ == "__main__":
    main()
