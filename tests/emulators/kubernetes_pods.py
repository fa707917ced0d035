"""A pod of the emulated cluster: its object, and the process that stands for its container."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

Object = dict[str, Any]
INDEX = "batch.kubernetes.io/job-completion-index"
POD_VARIABLE = "EMULATED_POD"
VARIABLE = re.compile(r"\$(\$|\(([^)]*)\))")
MESSAGE_BYTES = 2048


@dataclass
class Container:
    """The process of a pod. ``told_at``: when it was asked to end; ``reason``: what ends it badly is called."""

    process: subprocess.Popen[bytes]
    log: Path
    reason: str = "Error"
    told_at: float | None = None


def new_pod(job: Object, index: int) -> Object:
    template, name = job["spec"]["template"], job["metadata"]["name"]
    labels = {**template["metadata"]["labels"], INDEX: str(index), "batch.kubernetes.io/job-name": name}
    annotations = {**template["metadata"].get("annotations", {}), INDEX: str(index)}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"], "controller": True}
    return {
        "apiVersion": "v1", "kind": "Pod", "status": {"phase": "Pending"}, "spec": {**template["spec"]},
        "metadata": {"name": f"{name}-{index}-{os.urandom(3).hex()[:5]}", "namespace": job["metadata"]["namespace"],
                     "labels": labels, "annotations": annotations, "ownerReferences": [owner]},
    }  # fmt: skip


def start(pod: Object, environment: Mapping[str, str], place: Path, log: Path) -> Container:
    """Run its container's command; ``environment`` is what the image sets."""
    spec = pod["spec"]["containers"][0]
    values = _environment(pod, spec)
    with open(log, "ab") as stream:
        process = subprocess.Popen(
            [_expanded(part, values) for part in (*spec["command"], *spec.get("args", ()))],
            env={**environment, **values, POD_VARIABLE: pod["metadata"]["uid"]},
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Container(process, log)


def end(pod: Object, code: int, container: Container) -> None:
    number = code if code >= 0 else 128 - code
    ended: Object = {"exitCode": number, "reason": "Completed" if number == 0 else container.reason}
    if number:
        ended["message"] = container.log.read_bytes()[-MESSAGE_BYTES:].decode(errors="replace")
    set_container(pod, "terminated", ended)
    pod["status"]["phase"] = "Failed" if number else "Succeeded"


def _environment(pod: Object, container: Object) -> dict[str, str]:
    values = {"HOSTNAME": f"{pod['metadata']['name']}", "JOB_COMPLETION_INDEX": pod["metadata"]["annotations"][INDEX]}
    for entry in container.get("env", ()):
        if "value" in entry:
            values[entry["name"]] = _expanded(entry["value"], values)
        else:
            source = entry["valueFrom"]["fieldRef"]["fieldPath"]
            values[entry["name"]] = {"status.podIP": pod["status"]["podIP"]}[source]
    return values


def _expanded(text: str, values: Mapping[str, str]) -> str:
    """``$(NAME)`` as Kubernetes expands it: an unknown name stays, ``$$`` is a dollar."""

    def one(match: re.Match[str]) -> str:
        return "$" if match[1] == "$" else values.get(match[2], match[0])

    return VARIABLE.sub(one, text)


def condition(thing: Object, kind: str) -> Object:
    conditions = thing.get("status", {}).get("conditions", ())
    return next((one for one in conditions if one["type"] == kind and one["status"] == "True"), {})


def set_condition(thing: Object, kind: str, status: str, reason: str, message: str) -> None:
    conditions = thing["status"].setdefault("conditions", [])
    conditions[:] = [one for one in conditions if one["type"] != kind]
    conditions.append({"type": kind, "status": status, "reason": reason, "message": message})


def set_container(pod: Object, state: str, value: Object) -> None:
    spec, running = pod["spec"]["containers"][0], state == "running"
    status = {"name": spec["name"], "image": spec["image"], "imageID": "", "restartCount": 0, "ready": running}
    pod["status"]["containerStatuses"] = [{**status, "state": {state: value}}]


def processes_of(*uids: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(POD_VARIABLE) in uids and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def kill_all(*uids: str) -> None:
    """What is left of a container ends with its first process."""
    while left := processes_of(*uids):
        for process in left:
            try:
                process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(left, timeout=1)
