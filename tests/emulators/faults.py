"""A proxy between a client and an HTTP service that misbehaves as told, and counts what was asked.

It knows a request's action: of AWS's JSON protocols the target's last part (``RunTask``), of its query protocol the
``Action``, and of anything else method and path (``GET /api/v1/pods``). A fault names actions by a shell pattern.

    with FaultyProxy(url) as proxy:
        proxy.add(Fault("throttle", "*", times=2))       # the first two calls of each action
        proxy.add(Fault("lose", "RunTask"))              # the first is performed, its answer lost
"""

import fnmatch
import http.client
import http.server
import json
import socket
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade", "host"}
TIMEOUT = 120.0

How = Literal["throttle", "error", "drop", "lose", "answer"]
Answer = tuple[int, list[tuple[str, str]], bytes]
"""Status, headers, body."""

Change = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
"""From what was asked and what is answered, both JSON, what is answered instead."""


@dataclass
class Fault:
    """What happens to calls of ``action``: of each matching one the calls after the first ``after``, ``times`` of them.

    ``throttle``: refused as the service refuses too many calls. ``error``: status 500. ``drop``: the connection is
    closed and nothing performed. ``lose``: it is performed and the connection closed. ``answer``: nothing is
    performed, ``status`` and ``body`` are answered.
    """

    how: How
    action: str = "*"
    times: int = 1
    after: int = 0
    status: int = 200
    body: dict[str, Any] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)

    def strikes(self, action: str) -> bool:
        if not fnmatch.fnmatchcase(action, self.action):
            return False
        self.seen[action] += 1
        return self.after < self.seen[action] <= self.after + self.times


@dataclass
class Call:
    """One request: ``protocol`` decides what an error looks like."""

    action: str
    protocol: Literal["json", "query", "http"]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.body or b"{}")
        return value


class FaultyProxy:
    """``url`` is where it listens while it is entered; ``calls`` counts requests by action, those that failed too."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urllib.parse.urlparse(upstream)
        self.calls: Counter[str] = Counter()
        self.faults: list[Fault] = []
        self._changes: list[tuple[str, Change]] = []
        self._tokens: dict[str, str] = {}
        self._answers: dict[tuple[str, str], tuple[dict[str, Any], Answer]] = {}
        self._lock = threading.Lock()
        self._performing: dict[str, threading.Lock] = {}

    def __enter__(self) -> "FaultyProxy":
        handler = type("BoundHandler", (_Handler,), {"proxy": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self.faults.append(fault)

    def change(self, action: str, change: Change) -> None:
        """Have ``change`` rewrite each JSON answer to ``action``."""
        self._changes.append((action, change))

    def idempotent_by(self, action: str, token: str) -> None:
        """Give ``action`` the idempotency that its service documents and an emulator lacks: a call whose field
        ``token`` was seen before gets the first one's answer. With other parameters it is refused.
        """
        self._tokens[action] = token
        self._performing[action] = threading.Lock()

    def fault_of(self, call: Call) -> Fault | None:
        with self._lock:
            self.calls[call.action] += 1
            return next((fault for fault in self.faults if fault.strikes(call.action)), None)

    def perform(self, call: Call, handler: "_Handler") -> Answer:
        name = self._tokens.get(call.action)
        token = call.json.get(name) if name else None
        if not token:
            return self._changed(call, self._forward(handler, call.body))
        with self._performing[call.action]:
            if (call.action, token) not in self._answers:
                answer = self._changed(call, self._forward(handler, call.body))
                if answer[0] >= 300:
                    return answer
                self._answers[call.action, token] = (call.json, answer)
            asked, answer = self._answers[call.action, token]
        return (
            answer
            if asked == call.json
            else _json(400, {"__type": "ConflictException", "message": f"{token} is taken"})
        )

    def _changed(self, call: Call, answer: Answer) -> Answer:
        status, headers, body = answer
        for action, change in self._changes:
            if status < 300 and fnmatch.fnmatchcase(call.action, action):
                body = json.dumps(change(call.json, json.loads(body))).encode()
        return status, headers, body

    def _forward(self, handler: "_Handler", body: bytes) -> Answer:
        kind = http.client.HTTPSConnection if self.upstream.scheme == "https" else http.client.HTTPConnection
        connection = kind(str(self.upstream.hostname), self.upstream.port, timeout=TIMEOUT)
        try:
            headers = {name: value for name, value in handler.headers.items() if name.lower() not in HOP_BY_HOP}
            headers["Host"] = handler.headers.get("Host", self.upstream.netloc)
            connection.request(handler.command, handler.path, body, headers)
            answer = connection.getresponse()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]
            return answer.status, kept, answer.read()
        finally:
            connection.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def handle_one(self) -> None:
        call = self._call(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        fault = self.proxy.fault_of(call)
        if fault is None:
            return self._send(*self.proxy.perform(call, self))
        if fault.how == "answer":
            return self._send(*_json(fault.status, fault.body))
        if fault.how in ("throttle", "error"):
            return self._refuse(call, fault.how == "throttle")
        if fault.how == "lose":
            self.proxy.perform(call, self)
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        return None

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_one

    def _call(self, body: bytes) -> Call:
        if target := self.headers.get("X-Amz-Target"):
            return Call(target.rpartition(".")[2], "json", body)
        if "x-www-form-urlencoded" in self.headers.get("Content-Type", ""):
            form = urllib.parse.parse_qs(body.decode())
            if "Action" in form:
                return Call(form["Action"][0], "query", body)
        return Call(f"{self.command} {urllib.parse.urlparse(self.path).path}", "http", body)

    def _refuse(self, call: Call, throttled: bool) -> None:
        code = "ThrottlingException" if throttled else "InternalFailure"
        status = (429 if call.protocol == "http" else 400) if throttled else 500
        if call.protocol == "query":
            error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>told to</Message></Error>"
            text = f"<ErrorResponse>{error}</ErrorResponse>"
            return self._send(status, [("Content-Type", "text/xml")], text.encode())
        return self._send(*_json(status, {"__type": code, "message": "told to", "code": status}))

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _json(status: int, value: dict[str, Any]) -> Answer:
    return status, [("Content-Type", "application/json")], json.dumps(value).encode()
