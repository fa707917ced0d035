"""moto's S3 as real S3 behaves under many writers, with the faults that a test asks for.

moto looks whether an object is there and writes it in two steps; S3 does both in one. Here writes come one after the
other.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs

import pytest

Answer = tuple[str, bytes]
"""Status line and body."""


@dataclass(frozen=True)
class Asked:
    """One request: ``part`` is the number of the part that it sends, or 0."""

    method: str
    path: str
    query: dict[str, list[str]]
    range: str

    @property
    def part(self) -> int:
        return int(self.query.get("partNumber", ["0"])[0]) if self.method == "PUT" else 0


class S3Server:
    """``asked`` holds all requests; ``before`` may answer one instead of S3, ``after`` may change an answer."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server

        self.moto = DomainDispatcherApplication(create_backend_app)
        self.asked: list[Asked] = []
        self.before: Callable[[Asked], Answer | None] = lambda asked: None
        self.after: Callable[[Asked, bytes], bytes | Answer] = lambda asked, body: body
        self._writing = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=MotoRequestHandler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator["S3Server"]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        yield self
        self._server.shutdown()
        thread.join()

    def calm(self) -> None:
        """No faults any more, nothing asked yet."""
        self.asked.clear()
        self.before, self.after = lambda asked: None, lambda asked, body: body

    def parts(self) -> list[int]:
        """The parts that were sent, by number."""
        return sorted(asked.part for asked in self.asked if asked.part)

    def _answer(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        asked = Asked(environ["REQUEST_METHOD"], environ["PATH_INFO"], query, environ.get("HTTP_RANGE", ""))
        self.asked.append(asked)
        if answer := self.before(asked):
            return _sent(answer, start_response)
        if asked.method == "GET" or asked.method == "HEAD":
            return self._passed_on(asked, environ, start_response)
        with self._writing:
            return self._passed_on(asked, environ, start_response)

    def _passed_on(self, asked: Asked, environ: dict, start_response: Callable) -> Iterable[bytes]:
        said: list = []
        body = b"".join(self.moto(environ, lambda *status: said.extend(status)))
        changed = self.after(asked, body)
        if isinstance(changed, tuple):
            return _sent(changed, start_response)
        start_response(*said[:2])
        return [changed]


def _sent(answer: Answer, start_response: Callable) -> Iterable[bytes]:
    status, body = answer
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def error(status: str, code: str) -> Answer:
    """S3's way to say no: ``error("503 Slow Down", "SlowDown")``."""
    return status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


def reach(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process and those that it starts find S3 at ``url``, as anybody would tell them."""
    environment = {"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**environment, "AWS_ENDPOINT_URL": url}.items():
        monkeypatch.setenv(name, value)
