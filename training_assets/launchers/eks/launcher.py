"""The EKS launcher: an attempt is one Indexed Job, a node is one of its pods.

``manifest.py`` says what is created, ``pods.py`` what is seen of it, ``api.py`` how it is asked for,
``check.py`` what must be there before.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from trainer.contract.errors import ContractError, Problem, problems_of
from training_assets.launchers.base import Handle, LaunchFailed, LaunchSpec, Status
from training_assets.launchers.eks.api import Api, Object, Refused, api_of
from training_assets.launchers.eks.check import missing
from training_assets.launchers.eks.manifest import (
    ATTEMPT,
    GRACE,
    MANAGED,
    RUN,
    Work,
    job_name,
    manifests,
    master_port,
    owned_by,
    run_label,
    selector,
)
from training_assets.launchers.eks.pods import Seen, condition, plain, states_of
from training_assets.launchers.eks.settings import Settings
from training_assets.launchers.environment import FLIGHT_RECORDER
from training_assets.launchers.gang import HiredGang, NodeState
from training_assets.launchers.hardware import instance_of
from training_assets.profiles.hardware import Hardware

if TYPE_CHECKING:
    from training_assets.profiles import Profile

FORCE_AFTER = GRACE + 15.0
"""Seconds after which a pod that was told to go is taken off the API: its host does not answer."""

GIVE_UP_AFTER = 60.0
"""Seconds that forcing may take."""

FRESH = 0.9
"""A list is as good as new for this part of the time between polls."""


class EksLauncher(HiredGang):
    """``store`` is where Dagster sees the store, ``mount`` where pods do."""

    name = "eks"

    def __init__(
        self,
        settings: Settings,
        image: str,
        hardware: Hardware,
        store: Path,
        mount: Path,
        network_interface: str | None = None,
    ) -> None:
        self.settings, self.image, self.hardware = settings, image, hardware
        self.store, self.mount, self.network_interface = store, mount, network_interface
        self.placement_seconds, self.poll_seconds = hardware.placement_minutes * 60, settings.poll_seconds
        self.force_after = FORCE_AFTER
        self._admitted: dict[str, float] = {}
        """By Job: since when it costs money, seconds since 1970."""

    @classmethod
    def of(cls, profile: "Profile") -> "EksLauncher":
        """
        Raises:
            ContractError: the profile lacks what this launcher must know.
        """
        where = f"profile {profile.name}"
        if profile.hardware is None or profile.image is None:
            given = {"hardware": profile.hardware, "image": profile.image}
            lacking = [Problem(where, "nothing", "a mapping", field=name) for name, value in given.items() if not value]
            raise ContractError("launcher eks needs more of its profile", lacking)
        instance_of(profile.hardware)
        try:
            settings = Settings.model_validate(profile.backend)
        except ValidationError as error:
            raise ContractError(
                "launcher eks cannot use this backend", problems_of(error, f"{where}, backend")
            ) from None
        mount = profile.mount or profile.store
        if not mount.is_relative_to(settings.claim_path):
            problem = Problem(where, str(mount), f"a directory in {settings.claim_path}", field="mount")
            raise ContractError("pods would not see the store", [problem], "backend.claim_path is where they mount it.")
        image = profile.image.trainer
        return cls(settings, image, profile.hardware, profile.store, mount, profile.network_interface)

    def check(self) -> Sequence[Problem]:
        try:
            return missing(self._api, self.settings)
        except ContractError as error:
            return error.problems
        except ConnectionError as error:
            return [Problem("profile", f"{error}", "an API that answers", field="backend.context")]

    def launch(self, spec: LaunchSpec) -> Handle:
        self._refuse_misfit(spec)
        (spec.attempt_dir / FLIGHT_RECORDER).mkdir(parents=True, exist_ok=True)
        self._end_forgotten(spec)
        job, *dependents = manifests(self.work_of(spec), self.settings, self.hardware)
        try:
            created = self._api.create(self._jobs, job)
            self._create_dependents(created, dependents)
        except Refused as refused:
            handle = Handle(job_name(spec), spec, time.time())
            if refused.status != 409:  # that one is somebody else's
                self.stop(handle)
            raise self._not_launched(spec, refused) from None
        return Handle(job_name(spec), spec, time.time())

    def attach(self, handle: Handle) -> Handle | None:
        """Its Job by name. Whoever created it may have died before it had created the rest."""
        name = job_name(handle.spec)
        job = self._api.get(f"{self._jobs}/{name}")
        if job is None or not selector(handle.spec).items() <= job["metadata"].get("labels", {}).items():
            return None
        if "deletionTimestamp" not in job["metadata"]:
            _, *dependents = manifests(self.work_of(handle.spec), self.settings, self.hardware)
            self._create_dependents(job, dependents)
        return replace(handle, id=name)

    def poll(self, handle: Handle) -> Status:
        """Time in the queue costs nothing: nodes have to come within ``placement_seconds`` of being admitted."""
        return super().poll(replace(handle, started_at=self._placing_since(handle)))

    def nodes(self, handle: Handle) -> Sequence[NodeState]:
        """One list of pods, which all runs of the namespace share; the Job and events only where pods leave doubt.

        A list may be older than what nodes wrote: a pod that it lacks may have come since. A bad end is looked at anew.
        """
        states = self._states(handle)
        if any(state.ended_badly for state in states):
            self._api.forget()
            states = self._states(handle)
        return states

    def stop(self, handle: Handle) -> None:
        """Deletes the Job with all that it owns; pods whose hosts do not answer are forced off the API."""
        self._remove(job_name(handle.spec), selector(handle.spec))

    def seconds_billed(self, handle: Handle) -> float | None:
        """Since the queue let it start; None without a queue."""
        since = self._admitted.get(job_name(handle.spec))
        return None if since is None else max(0.0, time.time() - since)

    def work_of(self, spec: LaunchSpec) -> Work:
        """What each node runs, with the store where pods see it."""
        patience = ("--patience", f"{self.placement_seconds:.0f}", "--echo")
        command = self.command(replace(spec, port=master_port(spec)), *patience)
        environment = {"FI_EFA_USE_HUGE_PAGE": "0", **self.environment(spec)}
        active = None if spec.deadline is None else spec.deadline + self.placement_seconds
        return Work(spec, self.image, command, environment, active)

    def _states(self, handle: Handle) -> Sequence[NodeState]:
        spec = handle.spec
        pods = self._own(self._listed("pods"), spec)
        late = time.time() - handle.started_at > self.placement_seconds
        seen = Seen(spec, pods, None, lost="spot" if self.hardware.spot else "host_lost", late=late)
        if plain(pods, spec.nodes):
            return states_of(replace(seen, job={"metadata": {}, "spec": {}}))
        job = next(iter(self._own(self._listed("jobs"), spec)), None)
        events: list[Object] = []
        if job is not None and not job["spec"].get("suspend") and len(pods) < spec.nodes:
            query = {"fieldSelector": "involvedObject.kind=Job,reason=FailedCreate"}
            events = self._api.listed(f"{self._core}/events", query, FRESH * self.poll_seconds)
            events = [one for one in events if one["involvedObject"].get("uid") == job["metadata"]["uid"]]
        return states_of(replace(seen, job=job, events=events))

    def _create_dependents(self, job: Object, dependents: Sequence[Object]) -> None:
        service, policy = dependents
        self._api.create(f"{self._core}/services", owned_by(job, service))
        path = f"/apis/networking.k8s.io/v1/namespaces/{self.settings.namespace}/networkpolicies"
        self._api.create(path, owned_by(job, policy))

    def _end_forgotten(self, spec: LaunchSpec) -> None:
        """End earlier attempts at this run that nobody watches any more: a run directory holds one training."""
        labels = {**MANAGED, RUN: run_label(spec)}
        for job in self._api.items(self._jobs, {"labelSelector": _text(labels)}):
            over = condition(job, "Complete") or condition(job, "Failed")
            attempt = job["metadata"]["labels"][ATTEMPT]
            if not over and attempt != selector(spec)[ATTEMPT]:
                self._remove(job["metadata"]["name"], {**labels, ATTEMPT: attempt})

    def _remove(self, name: str, labels: dict[str, str]) -> None:
        """Delete the Job ``name`` and wait until it, and all pods with ``labels``, are gone."""
        path = f"{self._jobs}/{name}"
        self._api.delete(path, propagationPolicy="Foreground")
        deadline = time.monotonic() + self.force_after
        while time.monotonic() < deadline + GIVE_UP_AFTER:
            left = self._api.items(f"{self._core}/pods", {"labelSelector": _text(labels)})
            if not left and self._api.get(path) is None:
                self._api.forget()
                return
            if time.monotonic() > deadline:
                for pod in left:
                    self._api.delete(f"{self._core}/pods/{pod['metadata']['name']}", gracePeriodSeconds=0)
            time.sleep(min(1.0, self.poll_seconds))
        names = ", ".join(pod["metadata"]["name"] for pod in left) or path
        raise TimeoutError(f"{names} could not be deleted: delete it by hand, it may still cost money")

    def _placing_since(self, handle: Handle) -> float:
        if self.settings.queue is None:
            return handle.started_at
        name = job_name(handle.spec)
        if name not in self._admitted:
            job = next(iter(self._own(self._listed("jobs"), handle.spec)), None)
            started = (job or {}).get("status", {}).get("startTime")
            if job is None or job["spec"].get("suspend") or started is None:
                return time.time()
            self._admitted[name] = datetime.fromisoformat(started).timestamp()
        return self._admitted[name]

    def _listed(self, kind: str) -> list[Object]:
        path = self._jobs if kind == "jobs" else f"{self._core}/{kind}"
        return self._api.listed(path, {"labelSelector": _text(MANAGED)}, FRESH * self.poll_seconds)

    def _own(self, objects: Sequence[Object], spec: LaunchSpec) -> list[Object]:
        own = selector(spec).items()
        return [one for one in objects if own <= one["metadata"]["labels"].items()]

    def _refuse_misfit(self, spec: LaunchSpec) -> None:
        gpus, launch = instance_of(self.hardware).gpus, spec.launch
        if launch is None or launch.accelerator == "cpu":
            return
        if launch.accelerator == "cuda" and not gpus:
            found, expected = "cuda", f"cpu or auto: {self.hardware.instance_type} has no GPU"
            problem = Problem("recipe", found, expected, field="launch.accelerator")
        elif gpus and (launch.processes or 0) > gpus:
            expected = f"no more than the {gpus} GPUs of {self.hardware.instance_type}"
            problem = Problem("recipe", str(launch.devices), expected, field="launch.devices")
        else:
            return
        raise ContractError("the training does not fit the profile's hardware", [problem])

    def _not_launched(self, spec: LaunchSpec, refused: Refused) -> Exception:
        if "exceeded quota" in str(refused):
            return LaunchFailed(Status("failed", None, f"{spec.what}: {refused}", "quota"))
        where = f"namespace {self.settings.namespace}"
        problem = Problem(where, str(refused), "an API server that accepts the Job", field=job_name(spec))
        advice = "`python -m training_assets profile check` says what else is missing."
        return ContractError("Kubernetes refused the training", [problem], advice)

    @property
    def _api(self) -> Api:
        settings = self.settings
        return api_of(settings.kubeconfig, settings.context, settings.retry_seconds)

    @property
    def _jobs(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.settings.namespace}/jobs"

    @property
    def _core(self) -> str:
        return f"/api/v1/namespaces/{self.settings.namespace}"


def _text(labels: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in labels.items())
