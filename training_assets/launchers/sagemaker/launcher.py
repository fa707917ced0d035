"""The SageMaker launcher: an attempt is one training job, its nodes are the job's instances.

The store is an FSx for Lustre file system that the job mounts as a channel. What a node is to do lies there as well, in
the attempt's directory: SageMaker holds no argument beyond 256 characters and no environment value beyond 512.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from trainer.contract.errors import ContractError, Problem, problems_of
from trainer.contract.files import write_text
from trainer.contract.nodes import NodeStart, start_path
from trainer.contract.results import FailureKind
from training_assets.aws import client
from training_assets.launchers import environment
from training_assets.launchers.base import Handle, LaunchFailed, LaunchSpec, Status
from training_assets.launchers.devices import refuse_misfit
from training_assets.launchers.gang import HiredGang, NodeState
from training_assets.launchers.hardware import instance_of
from training_assets.launchers.sagemaker.check import problems_with
from training_assets.launchers.sagemaker.job import CHANNELS, Settings, job_name, request_of, tags_of
from training_assets.launchers.sagemaker.status import ENDED, kind_of, state_of
from training_assets.profiles.hardware import Hardware

if TYPE_CHECKING:
    from training_assets.launchers.sagemaker.jobs import Jobs, Refusal
    from training_assets.profiles import Profile

STOP_SECONDS = 900.0
"""SIGTERM, 120 s until SIGKILL, and what SageMaker then takes to upload and to give the instances back."""


class SageMakerLauncher(HiredGang):
    """Of a profile with ``hardware`` (``ml.`` instances), ``mount`` (``/opt/ml/input/data/<channel>``), ``backend``."""

    name = "sagemaker"

    poll_seconds = 10.0
    tries = 8
    """Of each call: throttling, 5xx and lost connections are mended by boto3, with jitter, for a minute at most."""

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
        self.store: Path = store
        self.mount: Path = mount
        self.network_interface = network_interface
        self.placement_seconds = hardware.placement_minutes * 60
        self._stopped: set[str] = set()

    @classmethod
    def of(cls, profile: "Profile") -> "SageMakerLauncher":
        """
        Raises:
            ContractError: names each field of the profile that is wrong.
        """
        try:
            settings = Settings.model_validate(profile.backend)
        except ValidationError as error:
            where = f"profile {profile.name}, backend"
            raise ContractError("SageMaker cannot be used", problems_of(error, where)) from None
        if problems := _misfits(profile, settings):
            raise ContractError("SageMaker cannot be used", problems)
        assert profile.hardware is not None
        assert profile.image is not None
        assert profile.mount is not None
        instance_of(profile.hardware)
        image = profile.image.trainer
        return cls(settings, image, profile.hardware, profile.store, profile.mount, profile.network_interface)

    def client(self, service: str) -> Any:
        return client(service, self.tries, region=self.hardware.region)

    def check(self) -> Sequence[Problem]:
        return problems_with(self.settings, self.image, self.hardware, self.store, self.client)

    def launch(self, spec: LaunchSpec) -> Handle:
        if spec.launch is not None:
            refuse_misfit(spec.launch.model_copy(update={"num_nodes": 1}), instance_of(self.hardware).gpus)
        start_file = start_path(spec.attempt_dir)
        request = request_of(spec, self.settings, self.image, self.hardware, self._mount, self.there(str(start_file)))
        (spec.attempt_dir / environment.FLIGHT_RECORDER).mkdir(parents=True, exist_ok=True)
        write_text(start_file, self._start(spec).model_dump_json() + "\n")
        if refusal := self.jobs.create(request):
            self._ours_or_refused(spec, refusal)
        return self._handle(spec, time.time())

    def attach(self, handle: Handle) -> Handle | None:
        known = self.jobs.describe(job_name(handle.spec))
        return None if known is None else self._handle(handle.spec, handle.started_at)

    def nodes(self, handle: Handle) -> Sequence[NodeState]:
        job = self.jobs.latest(handle.id)
        if job is None:
            gone = NodeState(0, "ended", None, "host_lost", f"SageMaker knows of no training job {handle.id}")
            return [gone]
        state = state_of(job, handle.id in self._stopped)
        return [replace(state, node=node) for node in range(handle.spec.nodes)]

    def stop(self, handle: Handle) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while (job := self.jobs.latest(handle.id, fresh=True)) and job["TrainingJobStatus"] not in ENDED:
            if time.monotonic() > deadline:
                raise TimeoutError(f"training job {handle.id} is still {job['TrainingJobStatus']}: look at its console")
            if job["TrainingJobStatus"] == "InProgress":
                self._stopped.add(handle.id)
                self.jobs.stop(handle.id)
            time.sleep(min(2.0, self.poll_seconds))

    def seconds_billed(self, handle: Handle) -> float | None:
        job = self.jobs.latest(handle.id) or {}
        seconds: float | None = job.get("BillableTimeInSeconds")
        return seconds

    @cached_property
    def jobs(self) -> "Jobs":
        """Made when first used: the code location loads without a client."""
        from training_assets.launchers.sagemaker.jobs import Jobs

        return Jobs(self.client("sagemaker"), lambda: self.poll_seconds)

    @property
    def _mount(self) -> PurePosixPath:
        return PurePosixPath(str(self.mount))

    def _start(self, spec: LaunchSpec) -> NodeStart:
        options = ("--echo", "--patience", f"{self.placement_seconds:.0f}")
        _, _, *arguments = self.command(spec, *options)  # behind "-m trainer.node"
        efa = {"FI_EFA_USE_HUGE_PAGE": "0"} if instance_of(self.hardware).efa else {}
        return NodeStart(environment=self.environment(spec, efa), arguments=tuple(arguments))

    def _handle(self, spec: LaunchSpec, started_at: float) -> Handle:
        name = job_name(spec)
        return Handle(name, spec, started_at, (name,))

    def _ours_or_refused(self, spec: LaunchSpec, refusal: "Refusal") -> None:
        """
        Raises:
            LaunchFailed, ContractError: there is no job of ours, for this reason.
        """
        if refusal.code == "ResourceInUse":
            self._refuse_a_strangers_job(spec)
            return
        quota: FailureKind | None = "quota" if refusal.code == "ResourceLimitExceeded" else None
        if kind := quota or (kind_of(refusal.text) if refusal.code == "ValidationException" else None):
            raise LaunchFailed(Status("failed", None, f"{spec.what}: {refusal.text}", kind))
        problem = Problem(job_name(spec), f"{refusal.code}: {refusal.text}", "a request that SageMaker takes")
        raise ContractError("SageMaker refuses the training job", [problem])

    def _refuse_a_strangers_job(self, spec: LaunchSpec) -> None:
        """The answer to an earlier request may have been lost, or this is another process's launch of the attempt."""
        found, ours = self.jobs.tags(job_name(spec)), tags_of(spec)
        if not ours.items() <= found.items():
            problem = Problem(f"training job {job_name(spec)}", f"tags {found}", f"tags {ours}")
            raise ContractError("somebody else has a training job of this name", [problem])


def _misfits(profile: "Profile", settings: Settings) -> list[Problem]:
    where, problems = f"profile {profile.name}", []
    hardware, mount = profile.hardware, profile.mount
    if hardware is None or not hardware.instance_type.startswith("ml."):
        found = "none" if hardware is None else hardware.instance_type
        problems.append(Problem(where, found, "an instance type of SageMaker, ml.…", field="hardware.instance_type"))
    if profile.image is None:
        problems.append(Problem(where, "none", "trainer: repository@sha256:…, of make image", field="image"))
    if mount is None or PurePosixPath(str(mount)).parent != CHANNELS:
        expected = f"{CHANNELS}/<channel>: SageMaker mounts channels there and nowhere else"
        problems.append(Problem(where, str(mount), expected, field="mount"))
    if hardware is not None and hardware.spot and not settings.checkpoints:
        expected = "an S3 URI: spot instances are refused without checkpoints that outlive them"
        problems.append(Problem(where, "none", expected, field="backend.checkpoints"))
    if hardware is not None and hardware.spot and settings.keep_alive_seconds:
        problems.append(Problem(where, str(settings.keep_alive_seconds), "0: spot instances cannot be kept",
                                field="backend.keep_alive_seconds"))  # fmt: skip
    return problems
