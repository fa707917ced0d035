"""The rest of the emulated cluster: Job controller, scheduler, Kueue, quota, and kubelets that run pods as processes.

The controllers do what LAUNCH.md saw a real control plane do, each in a function of a few lines, all of them in one
thread every ``TICK``. Images, volumes and isolation do not exist: a pod is a process of this machine, with an address
of its own on the loopback.
"""

import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from tests.emulators.kubernetes_api import ApiServer, now
from tests.emulators.kubernetes_pods import (
    INDEX,
    Container,
    condition,
    end,
    kill_all,
    new_pod,
    processes_of,
    set_condition,
    set_container,
    start,
)
from tests.emulators.kubernetes_rules import beyond_baseline

Object = dict[str, Any]
TICK = 0.05


@dataclass
class Host:
    name: str
    dead: bool = False


@dataclass
class Cluster:
    """``hosts`` each take one pod; ``quota`` is the most pods of a namespace; ``admits``: whether Kueue starts Jobs.

    ``images`` that are missing; ``environment`` is what images set. ``unreachable_seconds`` stands for the minute
    after which a dead host's pods are given up.
    """

    place: Path
    environment: Mapping[str, str]
    hosts: list[Host] = field(default_factory=lambda: [Host(f"host-{number}") for number in range(4)])
    quota: int | None = None
    admits: bool = True
    missing_images: dict[str, str] = field(default_factory=dict)
    unreachable_seconds: float = 0.5
    namespace: str = "training-assets"

    def __post_init__(self) -> None:
        self.api = ApiServer(self._deleted, self.evict)
        self.api.logs = lambda pod: self._log_of(pod).read_text(errors="replace")
        self.containers: dict[str, Container] = {}
        self._died: dict[str, float] = {}
        self._addresses = 0
        self._closed = threading.Event()
        for kind, resource, name in (
            ("Namespace", "namespaces", self.namespace), ("ServiceAccount", "serviceaccounts", "trainer"),
            ("ServiceAccount", "serviceaccounts", "default"),
            ("PersistentVolumeClaim", "persistentvolumeclaims", "fsx"), ("LocalQueue", "localqueues", "gpu"),
            ("PriorityClass", "priorityclasses", "training"),
        ):  # fmt: skip
            spread = kind in ("Namespace", "PriorityClass")
            place = {} if spread else {"namespace": self.namespace}
            status = {"phase": "Bound"} if kind == "PersistentVolumeClaim" else {}
            self.api.store.put(resource, {"kind": kind, "metadata": {"name": name, **place}, "status": status})
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Cluster":
        self.place.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()
        self.api.close()
        kill_all(*self.containers)

    # What tests do to it.

    def pods(self) -> list[Object]:
        return sorted(self.api.store.all("pods"), key=lambda pod: int(pod["metadata"]["annotations"][INDEX]))

    def jobs(self) -> list[Object]:
        return self.api.store.all("jobs")

    def processes(self) -> list[psutil.Process]:
        """All that pods started and that still lives."""
        return processes_of(*self.containers)

    def kill(self, pod: Object, reason: str = "Error") -> None:
        """SIGKILL to the container's first process, for ``reason``."""
        container = self.containers[pod["metadata"]["uid"]]
        container.reason = reason
        container.process.kill()

    def evict(
        self, pod: Object, reason: str = "EvictionByEvictionAPI", message: str = "Eviction API: evicting"
    ) -> None:
        with self.api.store.lock:
            set_condition(pod, "DisruptionTarget", "True", reason, message)
            self._deleted("pods", pod, {})

    def lose_host(self, pod: Object) -> None:
        """The power of its host goes: nobody says so, and its pod stays as it was."""
        with self.api.store.lock:
            host = next(host for host in self.hosts if host.name == pod["spec"]["nodeName"])
            host.dead = True
            self._died[host.name] = time.monotonic()
            kill_all(pod["metadata"]["uid"])

    def take_back(self, job: Object) -> None:
        """Kueue gives the hosts to a Job that matters more."""
        with self.api.store.lock:
            self.admits = False
            job["spec"]["suspend"] = True
            for pod in self._pods_of(job):
                self._deleted("pods", pod, {})

    # Controllers.

    def _run(self) -> None:
        while not self._closed.wait(TICK):
            with self.api.store.lock:
                for job in self.api.store.all("jobs"):
                    self._admit(job)
                    self._control(job)
                self._schedule()
                for pod in self.api.store.all("pods"):
                    self._keep(pod)

    def _deleted(self, resource: str, thing: Object, options: Object) -> None:
        """Jobs go once their pods are gone, pods once their processes have ended; all else goes at once."""
        metadata = thing["metadata"]
        if resource == "pods":
            grace = options.get("gracePeriodSeconds", thing["spec"]["terminationGracePeriodSeconds"])
            metadata.setdefault("deletionTimestamp", now(grace))
            metadata["deletionGracePeriodSeconds"] = grace
            if grace == 0:
                if not self._is_dead(thing):
                    kill_all(metadata["uid"])
                self.api.store.remove("pods", thing)
        elif resource == "jobs" and options.get("propagationPolicy") in ("Foreground", "Background"):
            metadata.setdefault("deletionTimestamp", now())
        else:
            self.api.store.remove(resource, thing)

    def _admit(self, job: Object) -> None:
        queued = "kueue.x-k8s.io/queue-name" in job["metadata"]["labels"]
        if job["spec"]["suspend"] and queued and self.admits:
            job["spec"]["suspend"] = False

    def _control(self, job: Object) -> None:
        status, pods = job.setdefault("status", {}), self._pods_of(job)
        if "deletionTimestamp" in job["metadata"]:
            self._take_down(job, pods)
            return
        if job["spec"]["suspend"] or condition(job, "Complete") or condition(job, "Failed"):
            return
        if condition(job, "FailureTarget"):
            self._fail_when_all_ended(job, pods)
            return
        status.setdefault("startTime", now())
        job.setdefault("_started", time.monotonic())
        limit = job["spec"].get("activeDeadlineSeconds")
        if limit is not None and time.monotonic() - job["_started"] > limit:
            self._fail(job, pods, "DeadlineExceeded", "Job was active longer than specified deadline")
        elif verdict := _verdict(job, pods):
            self._fail(job, pods, *verdict)
        else:
            self._create_missing(job, pods)
        if sum(pod["status"]["phase"] == "Succeeded" for pod in pods) == job["spec"]["completions"]:
            set_condition(job, "SuccessCriteriaMet", "True", "CompletionsReached", "Reached expected number of pods")
            set_condition(job, "Complete", "True", "CompletionsReached", "Reached expected number of succeeded pods")

    def _take_down(self, job: Object, pods: list[Object]) -> None:
        for pod in pods:
            if pod["status"]["phase"] in ("Succeeded", "Failed"):
                self.api.store.remove("pods", pod)
            elif "deletionTimestamp" not in pod["metadata"]:
                self._deleted("pods", pod, {})
        if not self._pods_of(job):
            owned = [(kind, one) for kind in ("services", "networkpolicies") for one in self.api.store.all(kind)]
            for kind, one in owned:
                if any(owner["uid"] == job["metadata"]["uid"] for owner in one["metadata"].get("ownerReferences", ())):
                    self.api.store.remove(kind, one)
            self.api.store.remove("jobs", job)

    def _fail(self, job: Object, pods: list[Object], reason: str, message: str) -> None:
        set_condition(job, "FailureTarget", "True", reason, message)
        for pod in pods:
            if pod["status"]["phase"] in ("Pending", "Running") and "deletionTimestamp" not in pod["metadata"]:
                self._deleted("pods", pod, {})

    def _fail_when_all_ended(self, job: Object, pods: list[Object]) -> None:
        if all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in pods):
            why = condition(job, "FailureTarget")
            set_condition(job, "Failed", "True", why["reason"], why["message"])

    def _create_missing(self, job: Object, pods: list[Object]) -> None:
        created = job.setdefault("_created", [])
        for index in range(job["spec"]["completions"]):
            if index in created:
                continue
            pod = new_pod(job, index)
            if refusal := self._refused(pod):
                self._event(job, "FailedCreate", f"Error creating: {refusal}")
                continue
            created.append(index)
            self.api.store.put("pods", pod)
        gone = set(created) - {int(pod["metadata"]["annotations"][INDEX]) for pod in self._pods_of(job)}
        if gone and created:
            self._fail(job, pods, "BackoffLimitExceeded", "Job has reached the specified backoff limit")

    def _refused(self, pod: Object) -> str:
        name, used = pod["metadata"]["name"], len(self.api.store.all("pods", self.namespace))
        if self.quota is not None and used >= self.quota:
            return (f'pods "{name}" is forbidden: exceeded quota: gpu, requested: pods=1, used: pods={used}, '
                    f"limited: pods={self.quota}")  # fmt: skip
        if said := beyond_baseline(pod["spec"]):
            return f'pods "{name}" is forbidden: violates PodSecurity "baseline:latest": {", ".join(said)}'
        account = pod["spec"].get("serviceAccountName", "default")
        if ("serviceaccounts", self.namespace, account) not in self.api.store.objects:
            return f'pods "{name}" is forbidden: error looking up service account: serviceaccount "{account}" not found'
        return ""

    def _event(self, job: Object, reason: str, message: str) -> None:
        name = f"{job['metadata']['name']}.{reason.lower()}"
        involved = {"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"]}
        event = {"kind": "Event", "metadata": {"name": name, "namespace": self.namespace}, "involvedObject": involved,
                 "reason": reason, "message": message, "lastTimestamp": now(), "type": "Warning"}  # fmt: skip
        self.api.store.put("events", event)

    def _schedule(self) -> None:
        pods, total = self.api.store.all("pods"), len(self.hosts)
        taken = {pod["spec"].get("nodeName") for pod in pods}
        free = [host for host in self.hosts if host.name not in taken and not host.dead]
        for pod in pods:
            if "nodeName" in pod["spec"] or "deletionTimestamp" in pod["metadata"]:
                continue
            if free:
                pod["spec"]["nodeName"] = free.pop(0).name
                set_condition(pod, "PodScheduled", "True", "", "")
            else:
                message = f"0/{total} nodes are available: {total} node(s) didn't match pod anti-affinity rules."
                set_condition(pod, "PodScheduled", "False", "Unschedulable", message)

    # Kubelets.

    def _keep(self, pod: Object) -> None:
        uid, leaving = pod["metadata"]["uid"], "deletionTimestamp" in pod["metadata"]
        if self._is_dead(pod):
            died = self._died[pod["spec"]["nodeName"]]
            if not leaving and time.monotonic() - died > self.unreachable_seconds:
                self.evict(pod, "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
            return
        container = self.containers.get(uid)
        if container is None:
            if leaving:
                self.api.store.remove("pods", pod)
            elif "nodeName" in pod["spec"]:
                self._start(pod)
            return
        code = container.process.poll()
        if code is not None and pod["status"]["phase"] == "Running":
            kill_all(uid)
            end(pod, code, container)
            return
        if leaving and code is None:
            self._tell(pod, container)
        elif leaving and not _is_counted_first(pod):
            self.api.store.remove("pods", pod)

    def _tell(self, pod: Object, container: Container) -> None:
        if container.told_at is None:
            container.told_at = time.monotonic()
            container.process.send_signal(signal.SIGTERM)
        elif time.monotonic() - container.told_at > pod["metadata"]["deletionGracePeriodSeconds"]:
            kill_all(pod["metadata"]["uid"])

    def _start(self, pod: Object) -> None:
        spec = pod["spec"]["containers"][0]
        if spec["image"] in self.missing_images:
            message = f'failed to pull and unpack image "{spec["image"]}": {self.missing_images[spec["image"]]}'
            set_container(pod, "waiting", {"reason": "ErrImagePull", "message": message})
            return
        self._addresses += 1
        pod["status"]["podIP"] = f"127.0.{1 + self._addresses // 250}.{1 + self._addresses % 250}"
        container = start(pod, self.environment, self.place, self._log_of(pod))
        self.containers[pod["metadata"]["uid"]] = container
        pod["status"]["phase"] = "Running"
        set_container(pod, "running", {"startedAt": now()})

    def _is_dead(self, pod: Object) -> bool:
        return any(host.dead for host in self.hosts if host.name == pod["spec"].get("nodeName"))

    def _log_of(self, pod: Object) -> Path:
        return self.place / f"{pod['metadata']['name']}.log"

    def _pods_of(self, job: Object) -> list[Object]:
        uid = job["metadata"]["uid"]
        return [pod for pod in self.api.store.all("pods") if pod["metadata"]["ownerReferences"][0]["uid"] == uid]


def _verdict(job: Object, pods: list[Object]) -> tuple[str, str] | None:
    """Reason and message of the first rule that a failed pod matches."""
    for pod in pods:
        if pod["status"]["phase"] != "Failed":
            continue
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        terminated = pod["status"].get("containerStatuses", [{}])[0].get("state", {}).get("terminated", {})
        for number, rule in enumerate(job["spec"]["podFailurePolicy"]["rules"]):
            for wanted in rule.get("onPodConditions", ()):
                if condition(pod, wanted["type"]):
                    message = (
                        f"Pod {name} has condition {wanted['type']} matching {rule['action']} rule at index {number}"
                    )
                    return "PodFailurePolicy", message
            codes = rule.get("onExitCodes")
            if codes and (terminated.get("exitCode") in codes["values"]) == (codes["operator"] == "In"):
                code, action = terminated.get("exitCode"), rule["action"]
                message = (f"Container {codes['containerName']} for pod {name} failed with exit code {code} matching "
                           f"{action} rule at index {number}")  # fmt: skip
                return "PodFailurePolicy", message
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    return None


def _is_counted_first(pod: Object) -> bool:
    """An ended pod keeps the Job controller's finalizer for a moment: it is removed in the next tick."""
    counted = bool(pod["metadata"].get("_counted"))
    pod["metadata"]["_counted"] = True
    return not counted
