"""SageMaker training jobs that really run: a moto server whose jobs are processes, one for each host.

Every host has mount and process namespaces of its own (``unshare``, as root) and in them its own ``/opt/ml``: channels
on FSx are bind mounts of a local directory, ``resourceconfig.json`` says which host it is, and the end of the command
ends everything in there, as the end of a container does. All hosts share this machine's network. Requests are held to
the limits of the service model that boto3 comes with. Statuses, messages and the order of things are those of the API
reference and of what users report; no instance, image or Lustre is emulated. All other services are moto's.
"""

import contextlib
import io
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
from botocore.session import get_session
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.emulators.sagemaker_host import ML, Host
from tests.emulators.sagemaker_limits import broken_limit, misfit

ACCOUNT, REGION = "123456789012", "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "emulated", "AWS_SECRET_ACCESS_KEY": "emulated", "AWS_DEFAULT_REGION": REGION}
LOG_GROUP = "/aws/sagemaker/TrainingJobs"
FAILURES = {"throttle": (400, "ThrottlingException", "Rate exceeded"), "error": (500, "InternalFailure", "try again")}
TICK = 0.05
Action = Callable[[dict[str, Any]], dict[str, Any]]
NO_CAPACITY = (
    "CapacityError: Unable to provision requested ML compute capacity. Please retry using a different ML instance type."
)
HOST_LOST = "InternalServerError: We encountered an internal error. Please try again."
NO_PULL = "ClientError: CannotPullContainerError: the image could not be pulled"


class Refused(Exception):
    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


@dataclass
class Job:
    """One training job: what DescribeTrainingJob says of it, its hosts, and what happens to it."""

    described: dict[str, Any]
    tags: list[dict[str, str]]
    hosts: list[Host] = field(default_factory=list)
    to_stop: threading.Event = field(default_factory=threading.Event)
    interrupted: threading.Event = field(default_factory=threading.Event)
    failing: str = ""
    """What is to become its failure reason."""
    placed: bool = False

    @property
    def name(self) -> str:
        name: str = self.described["TrainingJobName"]
        return name

    @property
    def is_over(self) -> bool:
        return self.described["TrainingJobStatus"] in ("Completed", "Failed", "Stopped")

    @property
    def count(self) -> int:
        count: int = self.described["ResourceConfig"]["InstanceCount"]
        return count

    def move(self, status: str, secondary: str, message: str = "") -> None:
        now = time.time()
        transitions = self.described["SecondaryStatusTransitions"]
        if transitions:
            transitions[-1]["EndTime"] = now
        transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
        self.described |= {"TrainingJobStatus": status, "SecondaryStatus": secondary, "LastModifiedTime": now}


class Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Requests are counted, not printed."""


class SageMaker:
    """A server at ``url``; a context manager, at whose end no job runs any more.

    ``file_systems``: local directories by file system id and mount name. ``images``: the environment that each image
    sets; None for one that cannot be pulled. ``capacity``: instances that there are; ``pending_seconds`` is how long a
    job waits for more. ``grace``: seconds between SIGTERM and SIGKILL, of which SageMaker gives 120.
    ``instance_quota``: instances of all jobs together. ``quotas``: by name, for Service Quotas. ``faults``: what
    happens to the next calls, by action (``*``: any): ``throttle``, ``error`` (500), ``lost`` (done, and the connection
    closed without an answer), ``twice`` (the request arrives twice). ``calls`` counts by action.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.file_systems: dict[tuple[str, str], Path] = {}
        self.images: dict[str, dict[str, str] | None] = {}
        self.capacity, self.pending_seconds, self.starting_seconds = 1000, 3600.0, 0.0
        self.instance_quota, self.grace = 1000, 5.0
        self.quotas: dict[str, float] = {}
        self.faults: dict[str, list[str]] = {}
        self.calls: Counter[str] = Counter()
        self.jobs: dict[str, Job] = {}
        self._keepers: list[threading.Thread] = []
        self._lock = threading.RLock()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._model = get_session().get_service_model("sagemaker")
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "SageMaker":
        # Somewhere to mount each host's own. It stays: to remove it would unmount it in the hosts of other servers too.
        ML.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=self._server.serve_forever, args=(TICK,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for job in list(self.jobs.values()):
            job.to_stop.set()
            for host in job.hosts:
                host.kill()
        while not all(job.is_over for job in self.jobs.values()):
            time.sleep(TICK)
        for keeper in self._keepers:
            keeper.join()
        self._server.shutdown()
        self._server.server_close()

    def client(self, service: str) -> Any:
        keys = {"aws_access_key_id": "emulated", "aws_secret_access_key": "emulated", "region_name": REGION}
        return boto3.client(service, endpoint_url=self.url, **keys)

    def checkpoints(self, uri: str) -> Path:
        """What SageMaker would copy to ``uri`` and back: here hosts write to it at once."""
        return self.place / "s3" / uri.removeprefix("s3://")

    @property
    def running(self) -> list[Job]:
        return [job for job in list(self.jobs.values()) if not job.is_over]

    # What happens to jobs.

    def interrupt(self, name: str) -> None:
        """Take the spot instances away. SageMaker starts the job again where there are others."""
        self.jobs[name].interrupted.set()

    def lose_host(self, name: str, host: int) -> None:
        """A machine fails: no signal, no word, and SageMaker's own excuse."""
        self.jobs[name].failing = HOST_LOST
        self.jobs[name].hosts[host].kill()

    # The API.

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        service, _, action = target.rpartition(".")
        action = action or parse_qs(body.decode(errors="replace")).get("Action", [environ["REQUEST_METHOD"]])[0]
        self.calls[action] += 1
        fault = self._next_fault(action)
        if fault in FAILURES:
            status, code, message = FAILURES[fault]
            if target:
                return self._json(start_response, status, {"__type": code, "message": message})
            return self._xml(start_response, status, f"<Code>{code}</Code><Message>{message}</Message>")
        if fault == "twice":
            self._done(service, action, body, environ, lambda *_: None)
        answer = self._done(service, action, body, environ, start_response)
        if fault == "lost":
            environ["werkzeug.socket"].shutdown(2)
        return answer

    def _next_fault(self, action: str) -> str:
        with self._lock:
            waiting = self.faults.get(action) or self.faults.get("*")
            return waiting.pop(0) if waiting else ""

    def _done(
        self, service: str, action: str, body: bytes, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        own: dict[str, dict[str, Action]] = {
            "SageMaker": self._own_actions(),
            "ServiceQuotasV20190624": {"ListServiceQuotas": self._quotas},
        }
        handler = own.get(service, {}).get(action)
        given = json.loads(body) if handler else {}
        if handler is None or (action == "ListTags" and "/" not in given.get("ResourceArn", "/")):
            environ["wsgi.input"] = io.BytesIO(body)
            return self._moto(environ, start_response)
        try:
            with self._lock:
                return self._json(start_response, 200, handler(given))
        except Refused as refused:
            return self._json(start_response, refused.status, {"__type": refused.code, "message": str(refused)})

    def _json(self, start_response: Callable[..., Any], status: int, value: Any) -> list[bytes]:
        body = json.dumps(value).encode()
        headers = [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(body)))]
        start_response(f"{status} {'OK' if status < 400 else 'Error'}", headers)
        return [body]

    def _xml(self, start_response: Callable[..., Any], status: int, error: str) -> list[bytes]:
        """An error of a query protocol: IAM reads the one place, EC2 the other."""
        body = f"<Answer><Error>{error}</Error><Errors><Error>{error}</Error></Errors></Answer>".encode()
        start_response(f"{status} Error", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
        return [body]

    def _own_actions(self) -> dict[str, Action]:
        return {
            "CreateTrainingJob": self._create,
            "DescribeTrainingJob": lambda given: self._job(given).described,
            "ListTrainingJobs": self._list,
            "StopTrainingJob": self._stop,
            "ListTags": self._list_tags,
        }

    def _create(self, given: dict[str, Any]) -> dict[str, Any]:
        if problem := broken_limit(given, self._model.shape_for("CreateTrainingJobRequest")) or misfit(given):
            raise Refused("ValidationException", f"1 validation error detected: {problem}")
        name, image = given["TrainingJobName"], given["AlgorithmSpecification"]["TrainingImage"]
        arn = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{name}"
        if name in self.jobs:
            raise Refused("ResourceInUse", f"Training job names must be unique within an account and region ({arn})")
        if image not in self.images:
            raise Refused("ValidationException", f"Requested image {image} not found.")
        wanted, used = given["ResourceConfig"]["InstanceCount"], sum(job.count for job in self.running)
        if used + wanted > self.instance_quota:
            message = f"The account-level service limit is {self.instance_quota} Instances, with current utilization of"
            raise Refused("ResourceLimitExceeded", f"{message} {used} Instances and a request delta of {wanted}.")
        kept = {key: value for key, value in given.items() if key != "Tags"}
        job = Job({**kept, "TrainingJobArn": arn, "SecondaryStatusTransitions": []}, given.get("Tags", []))
        job.move("InProgress", "Starting", "Preparing the instances for training")
        job.described["CreationTime"] = job.described["LastModifiedTime"]
        self.jobs[name] = job
        threading.Thread(target=self._life, args=(job,), daemon=True).start()
        return {"TrainingJobArn": arn}

    def _stop(self, given: dict[str, Any]) -> dict[str, Any]:
        job = self._job(given)
        if job.is_over:
            status = job.described["TrainingJobStatus"]
            message = f"The request was rejected because the training job is in status {status}."
            raise Refused("ValidationException", message)
        if not job.to_stop.is_set():
            job.move("Stopping", "Stopping", "Stopping the training job")
            job.to_stop.set()
        return {}

    def _list(self, given: dict[str, Any]) -> dict[str, Any]:
        jobs = [
            job
            for job in sorted(self.jobs.values(), key=lambda one: -one.described["CreationTime"])
            if given.get("NameContains", "") in job.name
            and job.described["CreationTime"] > given.get("CreationTimeAfter", 0)
        ]
        start, size = int(given.get("NextToken", 0)), given.get("MaxResults", 10)
        fields = ("TrainingJobName", "TrainingJobArn", "CreationTime", "LastModifiedTime", "TrainingJobStatus",
                  "SecondaryStatus")  # fmt: skip
        shown = [{name: job.described[name] for name in fields} for job in jobs[start : start + size]]
        more = {"NextToken": str(start + size)} if start + size < len(jobs) else {}
        return {"TrainingJobSummaries": shown, **more}

    def _list_tags(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": self._job({"TrainingJobName": given["ResourceArn"].rpartition("/")[2]}).tags}

    def _quotas(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"Quotas": [{"QuotaName": name, "Value": value} for name, value in self.quotas.items()]}

    def _job(self, given: dict[str, Any]) -> Job:
        if given["TrainingJobName"] not in self.jobs:
            raise Refused("ValidationException", "Requested resource not found.")
        return self.jobs[given["TrainingJobName"]]

    # The life of a job, in a thread of its own.

    def _life(self, job: Job) -> None:
        try:
            while self._is_placed(job) and self._is_pulled(job):
                self._train(job)
                if job.is_over:
                    return
                job.move("InProgress", "Starting", "Preparing the instances again")
        except Exception as error:
            self._end(job, "Failed", "Failed", f"InternalServerError: {error!r}")
            raise

    def _is_placed(self, job: Job) -> bool:
        deadline = time.monotonic() + self.pending_seconds
        over = time.monotonic() + self.starting_seconds
        while time.monotonic() < over or not self._take_instances(job):
            if job.to_stop.wait(TICK):
                self._end(job, "Stopped", "Stopped")
                return False
            if time.monotonic() > max(deadline, over):
                self._end(job, "Failed", "Failed", NO_CAPACITY)
                return False
        return True

    def _take_instances(self, job: Job) -> bool:
        """All of a job's instances, or none."""
        with self._lock:
            taken = sum(one.count for one in self.running if one.placed)
            if taken + job.count <= self.capacity:
                job.placed = True
                return True
        if job.described["SecondaryStatus"] != "Pending":
            job.move("InProgress", "Pending", "The training job is waiting for compute capacity")
        return False

    def _is_pulled(self, job: Job) -> bool:
        job.move("InProgress", "Downloading", "Downloading the training image")
        if self.images[job.described["AlgorithmSpecification"]["TrainingImage"]] is None:
            self._end(job, "Failed", "Failed", NO_PULL)
            return False
        return True

    def _train(self, job: Job) -> None:
        job.described.setdefault("TrainingStartTime", time.time())
        names = [f"algo-{number + 1}" for number in range(job.count)]
        with self._lock:
            if not job.to_stop.is_set():
                job.move("InProgress", "Training", "Training image download completed. Training in progress.")
            job.hosts = [self._started(job, name, names) for name in names]
        limit = job.described["TrainingStartTime"] + job.described["StoppingCondition"]["MaxRuntimeInSeconds"]
        while (codes := [host.exit_code for host in job.hosts]) and None in codes and not any(codes):
            if job.to_stop.is_set() or job.interrupted.is_set() or time.time() > limit:
                break
            time.sleep(TICK)
        first = next((host for host, code in zip(job.hosts, codes, strict=True) if code), None)
        enders = [threading.Thread(target=host.end, args=(self.grace,)) for host in job.hosts]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()
        self._judge(job, first, time.time() > limit)

    def _judge(self, job: Job, first: Host | None, too_long: bool) -> None:
        if first is None and job.interrupted.is_set() and not job.to_stop.is_set():
            job.interrupted.clear()
            job.placed = False
            return job.move("InProgress", "Interrupted", "Training job was interrupted: spot instances were reclaimed")
        if first is not None and not job.to_stop.is_set():
            left = first.root / "output" / "failure"
            said = left.read_text() if left.exists() else ""
            return self._end(job, "Failed", "Failed",
                             job.failing or f"AlgorithmError: {said}, exit code: {first.exit_code}")  # fmt: skip
        if job.to_stop.is_set():
            return self._end(job, "Stopped", "Stopped")
        if too_long:
            return self._end(job, "Stopped", "MaxRuntimeExceeded")
        job.move("InProgress", "Uploading", "Uploading generated training model")
        return self._end(job, "Completed", "Completed")

    def _end(self, job: Job, status: str, secondary: str, reason: str = "") -> None:
        with self._lock:
            job.placed = False
            if "TrainingStartTime" in job.described:
                seconds = int(time.time() - job.described["TrainingStartTime"]) + 1
                job.described |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": seconds}
            if reason:
                job.described["FailureReason"] = reason[:1024]
            job.move(status, secondary, reason)
            job.described["TrainingEndTime"] = job.described["LastModifiedTime"]

    def _started(self, job: Job, name: str, names: list[str]) -> Host:
        root = self.place / job.name / f"{name}-{time.time_ns()}"
        for folder in ("input/config", "input/data", "model", "output/data", "checkpoints", "code"):
            (root / folder).mkdir(parents=True)
        resources = {"current_host": name, "hosts": names, "network_interface_name": "lo",
                     "current_instance_type": job.described["ResourceConfig"]["InstanceType"]}  # fmt: skip
        (root / "input/config/resourceconfig.json").write_text(json.dumps(resources))
        algorithm = job.described["AlgorithmSpecification"]
        environment = {
            **{name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": self.url,
            "TRAINING_JOB_NAME": job.name,
            **(self.images[algorithm["TrainingImage"]] or {}),
            **job.described.get("Environment", {}),
        }
        command = [*algorithm["ContainerEntrypoint"], *algorithm.get("ContainerArguments", [])]
        host = Host(root, self._mounts(job, root), command, environment)
        stream = f"{job.name}/{name}-{int(time.time())}"
        keeper = threading.Thread(target=self._keep_log, args=(host, stream), daemon=True)
        keeper.start()
        self._keepers.append(keeper)
        return host

    def _mounts(self, job: Job, root: Path) -> dict[Path, str]:
        mounts = {}
        for channel in job.described.get("InputDataConfig", []):
            source = channel["DataSource"]["FileSystemDataSource"]
            _, mount_name, *parts = Path(source["DirectoryPath"]).parts
            there = self.file_systems[source["FileSystemId"], mount_name].joinpath(*parts)
            (root / "input/data" / channel["ChannelName"]).mkdir()
            mounts[there] = str(ML / "input/data" / channel["ChannelName"])
        if "CheckpointConfig" in job.described:
            checkpoints = self.checkpoints(job.described["CheckpointConfig"]["S3Uri"])
            checkpoints.mkdir(parents=True, exist_ok=True)
            mounts[checkpoints] = job.described["CheckpointConfig"].get("LocalPath", str(ML / "checkpoints"))
        return mounts

    def _keep_log(self, host: Host, stream: str) -> None:
        logs = self.client("logs")
        with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_group(logGroupName=LOG_GROUP)
        logs.create_log_stream(logGroupName=LOG_GROUP, logStreamName=stream)
        assert host.process.stdout is not None
        for line in host.process.stdout:
            event = {"timestamp": int(time.time() * 1000), "message": line.decode(errors="replace").rstrip("\n") or " "}
            logs.put_log_events(logGroupName=LOG_GROUP, logStreamName=stream, logEvents=[event])
