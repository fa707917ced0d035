"""A Kubernetes API server in one process: real HTTP for the real client, behaviour as far as a training's Job goes.

Objects live in memory; :mod:`kubernetes_cluster` has the controllers and runs pods as processes. What a test wants to
go wrong it says with :class:`Fault`. It is not Kubernetes: no watches, no patches, no roles but a list of denials.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import yaml

from tests.emulators.kubernetes_rules import violations

Object = dict[str, Any]
TOKEN = "a-token-of-the-emulator"  # noqa: S105 - it opens nothing else
PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"(?:/(?P<resource>[a-z]+))?(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?"
)
VERBS = {"POST": "create", "GET": "get", "DELETE": "delete"}
REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "AlreadyExists",
           422: "Invalid", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable",
           504: "Timeout"}  # fmt: skip


@dataclass
class Fault:
    """The next ``times`` requests of ``verb`` on ``resource`` go wrong.

    ``refuse``: answered with ``status``; ``drop``: done, but the answer is lost; ``twice``: done twice, as where a
    proxy sends a request again.
    """

    verb: str
    resource: str
    how: Literal["refuse", "drop", "twice"] = "refuse"
    status: int = 503
    times: int = 1
    retry_after: int | None = None
    message: str = "the emulator was told to"


class ApiError(Exception):
    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class Store:
    """Objects by resource, namespace and name; whoever reads or changes several at once holds ``lock``."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.version = 0

    def put(self, resource: str, thing: Object) -> Object:
        with self.lock:
            metadata = thing["metadata"]
            self.version += 1
            metadata.setdefault("uid", str(uuid4()))
            metadata.setdefault("creationTimestamp", now())
            metadata["resourceVersion"] = str(self.version)
            self.objects[resource, metadata.get("namespace", ""), metadata["name"]] = thing
            return thing

    def all(self, resource: str, namespace: str | None = None) -> list[Object]:
        with self.lock:
            return [
                thing
                for (kind, place, _), thing in self.objects.items()
                if kind == resource and namespace in (None, place)
            ]

    def remove(self, resource: str, thing: Object) -> None:
        with self.lock:
            metadata = thing["metadata"]
            self.objects.pop((resource, metadata.get("namespace", ""), metadata["name"]), None)


class ApiServer:
    """``faults`` are used up in their order; ``denied`` has (verb, resource) pairs; ``calls`` is what was asked.

    ``on_delete`` is told of a deletion that the cluster must carry out (resource, object, options), ``on_evict`` of the
    eviction of a pod.
    """

    def __init__(
        self, on_delete: Callable[[str, Object, Object], None], on_evict: Callable[[Object], None] = lambda pod: None
    ) -> None:
        self.store, self.faults, self.denied = Store(), list[Fault](), set[tuple[str, str]]()
        self.calls: list[tuple[str, str]] = []
        self.logs: Callable[[Object], str] = lambda pod: ""
        self.on_delete, self.on_evict = on_delete, on_evict
        handler = type("Handler", (_Handler,), {"server_of": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def kubeconfig(self, path: Path, context: str = "emulator") -> Path:
        one = {"cluster": context, "user": context}
        value = {
            "apiVersion": "v1", "kind": "Config", "current-context": context,
            "contexts": [{"name": context, "context": one}],
            "clusters": [{"name": context, "cluster": {"server": self.url}}],
            "users": [{"name": context, "user": {"token": TOKEN}}],
        }  # fmt: skip
        path.write_text(yaml.safe_dump(value))
        return path

    def answer(self, method: str, target: str, body: Object) -> Object:
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if url.path == "/version":
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
        match = PATH.fullmatch(url.path)
        if not match:
            raise ApiError(404, f"the server could not find the requested resource {url.path}")
        place = match.groupdict()
        if place["resource"] is None:  # a namespace itself
            place = {**place, "resource": "namespaces", "name": place["namespace"], "namespace": ""}
        verb = "list" if method == "GET" and place["name"] is None else VERBS[method]
        with self.store.lock:
            self.calls.append((verb, place["resource"]))
            return self._with_faults(verb, place, query, body)

    def _with_faults(self, verb: str, place: dict[str, Any], query: dict[str, str], body: Object) -> Object:
        for fault in self.faults:
            if fault.times and (fault.verb, fault.resource) in ((verb, place["resource"]), ("any", "any")):
                fault.times -= 1
                if fault.how == "refuse":
                    raise ApiError(fault.status, fault.message, fault.retry_after)
                answer = self._perform(verb, place, query, body)
                if fault.how == "drop":
                    raise ConnectionAbortedError
                return self._perform(verb, place, query, body) if fault.how == "twice" else answer
        return self._perform(verb, place, query, body)

    def _perform(self, verb: str, place: dict[str, Any], query: dict[str, str], body: Object) -> Object:
        resource, namespace, name = place["resource"], place["namespace"] or "", place["name"]
        if resource == "selfsubjectaccessreviews":
            wanted = body["spec"]["resourceAttributes"]
            return {**body, "status": {"allowed": (wanted["verb"], wanted["resource"]) not in self.denied}}
        if (verb, resource) in self.denied:
            raise ApiError(403, f'{resource} is forbidden: User "tests" cannot {verb} resource "{resource}"')
        if verb == "create" and place["sub"] is None:
            return self._create(resource, namespace, query, body)
        if verb == "list":
            found = [thing for thing in self.store.all(resource, namespace) if _selected(thing, query)]
            return {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": found}
        thing = self.store.objects.get((resource, namespace, name))
        if thing is None:
            raise ApiError(404, f'{resource} "{name}" not found')
        if place["sub"] == "log":
            raise _Text(self.logs(thing))
        if place["sub"] == "eviction":
            self.on_evict(thing)
        if verb == "delete":
            grace = {"gracePeriodSeconds": int(query["gracePeriodSeconds"])} if "gracePeriodSeconds" in query else {}
            self.on_delete(resource, thing, {**query, **body, **grace})
        return thing

    def _create(self, resource: str, namespace: str, query: dict[str, str], body: Object) -> Object:
        if namespace and ("namespaces", "", namespace) not in self.store.objects:
            raise ApiError(404, f'namespaces "{namespace}" not found')
        if wrong := violations(body):
            kind, name = body.get("kind"), body.get("metadata", {}).get("name")
            raise ApiError(422, f'{kind} "{name}" is invalid: {"; ".join(wrong)}')
        key = (resource, namespace, body["metadata"]["name"])
        if key in self.store.objects:
            raise ApiError(409, f'{resource} "{key[2]}" already exists')
        body["metadata"]["namespace"] = namespace
        if resource == "jobs":
            body["status"] = {}
            body["spec"].setdefault("suspend", False)
        return body if query.get("dryRun") == "All" else self.store.put(resource, body)


class _Text(Exception):
    """An answer that is no JSON."""


class _Handler(BaseHTTPRequestHandler):
    server_of: ApiServer
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        try:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise ApiError(401, "Unauthorized")
            with self.server_of.store.lock:
                content = json.dumps(self.server_of.answer(self.command, self.path, body)).encode()
            self._send(200, content)
        except _Text as text:
            self._send(200, str(text).encode(), "text/plain")
        except ConnectionAbortedError:
            self.close_connection = True
        except ApiError as error:
            status = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": error.status,
                      "reason": REASONS.get(error.status, ""), "message": str(error)}  # fmt: skip
            self._send(error.status, json.dumps(status).encode(), retry_after=error.retry_after)

    do_GET = do_POST = do_DELETE = _handle

    def _send(
        self, status: int, content: bytes, kind: str = "application/json", retry_after: int | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if retry_after is not None:
            self.send_header("Retry-After", str(retry_after))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """The tests read ``calls``."""


def now(seconds: float = 0.0) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def _selected(thing: Object, query: dict[str, str]) -> bool:
    labels = thing["metadata"].get("labels", {})
    wanted = dict(part.split("=", 1) for part in query.get("labelSelector", "").split(",") if part)
    fields = dict(part.split("=", 1) for part in query.get("fieldSelector", "").split(",") if part)
    return wanted.items() <= labels.items() and all(
        _field(thing, path.split(".")) == value for path, value in fields.items()
    )


def _field(thing: Any, path: Iterable[str]) -> Any:
    for part in path:
        thing = thing.get(part, {})
    return thing
