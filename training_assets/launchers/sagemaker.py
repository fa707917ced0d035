"""The SageMaker launcher: an attempt is one training job, its nodes are the job's instances.

The store is an FSx for Lustre file system that the job mounts as a channel. What a node is to do lies there as well, in
the attempt's directory: SageMaker holds no argument beyond 256 characters and no environment value beyond 512.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import ClientError
from pydantic import ValidationError

from trainer.contract.errors import ContractError, Problem, problems_of
from trainer.contract.files import write_text
from trainer.contract.nodes import NodeStart, start_path
from training_assets.launchers import environment
from training_assets.launchers.base import Estimate, Handle, LaunchFailed, LaunchSpec, Status
from training_assets.launchers.devices import processes_of, refuse_misfit
from training_assets.launchers.gang import Gang, NodeState
from training_assets.launchers.hardware import Hardware, instance_of, usd_per_hour
from training_assets.launchers.sagemaker_check import problems_with
from training_assets.launchers.sagemaker_job import CHANNELS, PREFIX, Settings, job_name, request_of, tags_of
from training_assets.launchers.sagemaker_status import ENDED, kind_of, state_of

if TYPE_CHECKING:
    from training_assets.profiles import Profile

STOP_SECONDS = 900.0
"""SIGTERM, 120 s until SIGKILL, and what SageMaker then takes to upload and to give the instances back."""

PAGES = 10
Client = Any


class SageMakerLauncher(Gang):
    """Of a profile with ``hardware`` (``ml.`` instances), ``mount`` (``/opt/ml/input/data/<channel>``), ``backend``."""

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

    def client(self, service: str) -> Client:
        import boto3

        retries = {"mode": "standard", "total_max_attempts": self.tries}
        config = Config(retries=retries, connect_timeout=5, read_timeout=30)
        return boto3.client(service, region_name=self.hardware.region, config=config)

    def check(self) -> Sequence[Problem]:
        return problems_with(self.settings, self.image, self.hardware, self.store, self.client)

    def estimate(self, spec: LaunchSpec) -> Estimate:
        gpus = instance_of(self.hardware).gpus * spec.nodes
        return Estimate(self.hardware.instance_type, spec.nodes, gpus, usd_per_hour(self.hardware, spec.nodes))

    def ranks(self, spec: LaunchSpec) -> int:
        return 1 if spec.launch is None else processes_of(spec.launch, instance_of(self.hardware).gpus)

    def launch(self, spec: LaunchSpec) -> Handle:
        if spec.launch is not None:
            refuse_misfit(spec.launch.model_copy(update={"num_nodes": 1}), instance_of(self.hardware).gpus)
        start_file = start_path(spec.attempt_dir)
        request = request_of(spec, self.settings, self.image, self.hardware, self._mount, self.there(str(start_file)))
        (spec.attempt_dir / environment.FLIGHT_RECORDER).mkdir(parents=True, exist_ok=True)
        write_text(start_file, self._start(spec).model_dump_json() + "\n")
        try:
            self.jobs.client.create_training_job(**request)
        except ClientError as error:
            self._ours_or_refused(spec, error)
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
                self._ask_to_stop(handle.id)
            time.sleep(min(2.0, self.poll_seconds))

    def seconds_billed(self, handle: Handle) -> float | None:
        job = self.jobs.latest(handle.id) or {}
        seconds: float | None = job.get("BillableTimeInSeconds")
        return seconds

    @cached_property
    def jobs(self) -> "Jobs":
        """Made when first used: the code location loads without a client."""
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

    def _ours_or_refused(self, spec: LaunchSpec, error: ClientError) -> None:
        """
        Raises:
            LaunchFailed, ContractError: there is no job of ours, for this reason.
            ClientError: it is not known whether there is one: SageMaker could not be reached for long.
        """
        code, text = _told(error)
        if code == "ResourceInUse":
            self._refuse_a_strangers_job(spec)
            return
        if code == "ResourceLimitExceeded":
            raise LaunchFailed(Status("failed", None, f"{spec.what}: {text}", "quota")) from None
        if kind := kind_of(text) if code == "ValidationException" else None:
            raise LaunchFailed(Status("failed", None, f"{spec.what}: {text}", kind)) from None
        if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500 or "Throttl" in code:
            raise error
        raise ContractError("SageMaker refuses the training job", [Problem(job_name(spec), text, code)]) from None

    def _refuse_a_strangers_job(self, spec: LaunchSpec) -> None:
        """The answer to an earlier request may have been lost, or this is another process's launch of the attempt."""
        job = self.jobs.describe(job_name(spec))
        tags = self.jobs.client.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"] if job else ()
        found = {tag["Key"]: tag["Value"] for tag in tags}
        ours = tags_of(spec)
        if not ours.items() <= found.items():
            problem = Problem(f"training job {job_name(spec)}", f"tags {found}", f"tags {ours}")
            raise ContractError("somebody else has a training job of this name", [problem])

    def _ask_to_stop(self, name: str) -> None:
        try:
            self.jobs.client.stop_training_job(TrainingJobName=name)
        except ClientError as error:
            if _told(error)[0] != "ValidationException":  # it ended meanwhile
                raise


class Jobs:
    """Training jobs as SageMaker describes them, asked for as seldom as can be.

    Whoever watches one job describes it. For several, one listing serves all of them for ``seconds()``, and a job is
    described again only when the listing shows that it moved: how many calls there are does not grow with the jobs.
    """

    def __init__(self, client: Client, seconds: Callable[[], float]) -> None:
        self.client, self.seconds = client, seconds
        self._described: dict[str, Mapping[str, Any]] = {}
        self._listed: dict[str, tuple[object, ...]] = {}
        self._seen: dict[str, tuple[object, ...] | None] = {}
        """What the listing said of a job when it was last described."""
        self._listed_at = float("-inf")
        self._lock = threading.Lock()

    def describe(self, name: str) -> Mapping[str, Any] | None:
        """None: there is no such job."""
        try:
            job: Mapping[str, Any] = self.client.describe_training_job(TrainingJobName=name)
        except ClientError as error:
            code, text = _told(error)
            if code == "ResourceNotFound" or (code == "ValidationException" and "not f" in text):
                return None
            raise
        self._described[name] = job
        return job

    def latest(self, name: str, fresh: bool = False) -> Mapping[str, Any] | None:
        """``fresh``: as it is now, unless it has ended. Otherwise it may be as old as the listing."""
        known = self._described.get(name)
        if known is not None and known["TrainingJobStatus"] in ENDED:
            return known
        if known is None or fresh or self._watched() < 2:
            return self.describe(name)
        with self._lock:
            if time.monotonic() - self._listed_at >= self.seconds():
                self._list()
            mark = self._listed.get(name)
        if mark is not None and mark in (_mark(known), self._seen.get(name)):
            return known
        self._seen[name] = mark
        return self.describe(name)

    def _watched(self) -> int:
        return len(self._under_way())

    def _under_way(self) -> list[Mapping[str, Any]]:
        return [job for job in list(self._described.values()) if job["TrainingJobStatus"] not in ENDED]

    def _list(self) -> None:
        oldest: datetime = min(job["CreationTime"] for job in self._under_way())
        pages = self.client.get_paginator("list_training_jobs").paginate(
            NameContains=PREFIX,
            CreationTimeAfter=oldest - timedelta(seconds=1),
            PaginationConfig={"PageSize": 100, "MaxItems": 100 * PAGES},  # who is not among them is described
        )
        self._listed = {job["TrainingJobName"]: _mark(job) for page in pages for job in page["TrainingJobSummaries"]}
        self._listed_at = time.monotonic()


def _mark(job: Mapping[str, Any]) -> tuple[object, ...]:
    """What changes when the job moves, of its description as of its line in a listing."""
    return job["TrainingJobStatus"], job.get("SecondaryStatus"), job.get("LastModifiedTime")


def _told(error: ClientError) -> tuple[str, str]:
    return error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")


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
