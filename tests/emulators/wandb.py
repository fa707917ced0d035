"""As much of W&B's server as its client and ``wandb sync`` need to send runs, artifacts and files; it keeps what came.

No server of W&B's own runs without an account. The answers are what its client 0.29 was seen to ask for.
"""

import contextlib
import gzip
import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HISTORY, SUMMARY, EVENTS = "wandb-history.jsonl", "wandb-summary.json", "wandb-events.jsonl"


@dataclass
class Run:
    fields: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    exit_code: int | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines.get(HISTORY, [])]

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.lines.get(SUMMARY) or ["{}"])[-1])

    @property
    def config(self) -> dict[str, Any]:
        return {name: one["value"] for name, one in json.loads(self.fields.get("config") or "{}").items()}


@dataclass
class Artifact:
    name: str
    type: str
    aliases: list[str]
    metadata: dict[str, Any]
    digest: str
    run: str | None
    manifest: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    committed: bool = False


class WandbServer(ThreadingHTTPServer):
    """``runs`` by id and ``artifacts`` by the server's id; ``asked``: the names of all queries, ``keys``: the keys."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.asked: list[str] = []
        self.keys: set[str] = set()
        self._uploads: dict[str, tuple[dict[str, bytes], str]] = {}
        self._manifests: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def named(self, name: str) -> list[Artifact]:
        return [one for one in self.artifacts.values() if one.name == name]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes leaves its connections open."""

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        operation = query.replace("mutation", "query").split("query", 1)[-1].split("(")[0].split("{")[0].strip()
        self.asked.append(operation)
        given = variables.get("input", variables)
        answer = getattr(self, f"_{operation}", None)
        with self._lock:
            return {} if answer is None else answer(given)

    def stream(self, run_id: str, body: dict[str, Any]) -> None:
        """Each file's lines take their places from ``offset`` on, over what was there."""
        run = self.runs.setdefault(run_id, Run())
        with self._lock:
            for name, chunk in (body.get("files") or {}).items():
                lines = run.lines.setdefault(name, [])
                at, news = int(chunk["offset"]), chunk["content"]
                lines[at : at + len(news)] = news
            if body.get("complete"):
                run.exit_code = body.get("exitcode")

    def store(self, key: str, content: bytes) -> None:
        files, name = self._uploads[key]
        files[name] = content

    def _upload(self, files: dict[str, bytes], name: str) -> str:
        key = f"upload{next(self._numbers)}"
        self._uploads[key] = (files, name)
        return f"{self.url}/{key}"

    def _ServerFeaturesQuery(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _Viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "1", "entity": "team", "username": "t", "flags": "{}", "teams": {"edges": []}}}

    def _ArtifactType(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": None}

    def _RunResumeStatus(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(given["name"])
        if run is None:
            return {
                "model": {"id": "m", "name": given["project"], "bucket": None, "entity": {"id": "e", "name": "team"}}
            }
        tails = {f"{kind}Tail": json.dumps(run.lines.get(name, [])[-1:]) for kind, name in KINDS.items()}
        counts = {f"{kind}LineCount": len(run.lines.get(name, [])) for kind, name in KINDS.items()}
        bucket = {
            **tails,
            **counts,
            **{"id": "b", "name": given["name"], "summaryMetrics": json.dumps(run.summary), "displayName": "n"},
            **{"config": run.fields.get("config") or "{}", "tags": [], "wandbConfig": '{"t": 1}', "logLineCount": 0},
        }
        return {"model": {"id": "m", "name": given["project"], "bucket": bucket, "entity": ENTITY}}

    def _UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:
        inserted = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], Run())
        run.fields |= {name: value for name, value in given.items() if value is not None}
        project = {"id": "p", "name": given.get("project"), "entity": ENTITY}
        bucket = {
            **{"id": f"id-{given['name']}", "name": given["name"], "displayName": run.fields.get("displayName")},
            **{"description": None, "config": run.fields.get("config"), "sweepName": None, "project": project},
            "historyLineCount": len(run.lines.get(HISTORY, [])),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[given.get("run") or given.get("runName")]
        files = [{"name": name, "uploadUrl": self._upload(run.files, name)} for name in given["files"]]
        return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}

    def _CreateArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        same = [
            (key, one)
            for key, one in self.artifacts.items()
            if (one.name, one.digest) == (given["artifactCollectionName"], given["digest"])
        ]
        key = same[0][0] if same else f"artifact{next(self._numbers)}"
        aliases = [one["alias"] for one in given["aliases"] or ()]
        if not same:
            self.artifacts[key] = Artifact(
                given["artifactCollectionName"],
                given["artifactTypeName"],
                aliases,
                json.loads(given["metadata"] or "{}"),
                given["digest"],
                given.get("runName"),
            )
        else:
            self.artifacts[key].aliases += [alias for alias in aliases if alias not in self.artifacts[key].aliases]
        state = "COMMITTED" if self.artifacts[key].committed else "PENDING"
        artifact = {"id": key, "state": state, "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def _CreateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:
        key = f"manifest{next(self._numbers)}"
        self._manifests[key] = given["artifactID"]
        return {"createArtifactManifest": {"artifactManifest": self._manifest(key, given["name"])}}

    def _UpdateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:
        key = given.get("artifactManifestID") or given["id"]
        return {"updateArtifactManifest": {"artifactManifest": self._manifest(key, "wandb_manifest.json")}}

    def _manifest(self, key: str, name: str) -> dict[str, Any]:
        url = self._upload(self.artifacts[self._manifests[key]].files, name)
        file = {"id": "f", "name": name, "displayName": name, "uploadUrl": url, "uploadHeaders": []}
        return {"id": key, "file": file}

    def _CreateArtifactFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for file in given["artifactFiles"]:
            artifact = self.artifacts[file["artifactID"]]
            node = {
                **{"id": "f", "name": file["name"], "displayName": file["name"], "uploadHeaders": []},
                **{"uploadUrl": self._upload(artifact.files, file["name"]), "artifact": {"id": file["artifactID"]}},
                **{"storagePath": file["name"], "uploadMultipartUrls": None},
            }
            edges.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[given["artifactID"]]
        artifact.committed = True
        artifact.manifest = json.loads(artifact.files.get("wandb_manifest.json", b"{}"))
        return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": artifact.digest}}}

    def _ArtifactByID(self, given: dict[str, Any]) -> dict[str, Any]:
        one = self.artifacts[given["id"]]
        project = {"id": "p", "internalId": "p", "name": "project", "entity": {**ENTITY, "__typename": "Entity"}}
        sequence = {"__typename": "ArtifactSequence", "name": one.name, "project": project}
        answer = {
            **{"__typename": "Artifact", "id": given["id"], "artifactSequence": sequence, "versionIndex": 0},
            **{"artifactType": {"name": one.type}, "description": None, "metadata": json.dumps(one.metadata)},
            **{"ttlDurationSeconds": -1, "ttlIsInherited": True, "tags": [], "historyStep": None, "size": 1},
            **{"state": "COMMITTED", "digest": one.digest, "digestAlgorithm": "MANIFEST_MD5", "commitHash": "c"},
            **{"fileCount": 1, "createdAt": "2026-01-05T00:00:00", "updatedAt": None, "aliases": []},
        }
        return {"artifact": answer}

    def _UseArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        self.runs[given["runName"]].used.append(given["artifactID"])
        return {"useArtifact": {"artifact": {"id": given["artifactID"], "digest": "d", "state": "COMMITTED"}}}


ENTITY = {"id": "e", "name": "team"}
KINDS = {"history": HISTORY, "events": EVENTS}


class _Handler(BaseHTTPRequestHandler):
    server: WandbServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self._body()
        if key := self.headers.get("Authorization"):
            self.server.keys.add(key)
        if self.path.startswith("/files/"):
            self.server.stream(self.path.split("/")[-2], json.loads(body))
            self._say({"exitcode": None, "limits": {}})
        elif self.path == "/graphql":
            asked = json.loads(body)
            self._say({"data": self.server.answer(asked["query"], asked.get("variables") or {})})
        else:
            self._say({})

    def do_PUT(self) -> None:
        self.server.store(self.path.lstrip("/"), self._body())
        self._say({})

    def do_GET(self) -> None:
        self._say({})

    def _body(self) -> bytes:
        body = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self._whole()
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _whole(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _chunks(self) -> bytes:
        parts = []
        while length := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _say(self, value: dict[str, Any]) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


@contextlib.contextmanager
def wandb_server() -> Iterator[WandbServer]:
    with WandbServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
