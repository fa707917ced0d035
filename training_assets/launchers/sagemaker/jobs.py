"""Calls of SageMaker's API: few of them, and tried again where that mends it."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from training_assets.launchers.sagemaker.job import PREFIX
from training_assets.launchers.sagemaker.status import ENDED

PAGES = 10


@dataclass(frozen=True)
class Refusal:
    """SageMaker will not create the job."""

    code: str
    text: str


class Jobs:
    """Training jobs as SageMaker describes them, asked for as seldom as can be.

    Whoever watches one job describes it. For several, one listing serves all of them for ``seconds()``, and a job is
    described again only when the listing shows that it moved: how many calls there are does not grow with the jobs.
    """

    def __init__(self, client: Any, seconds: Callable[[], float]) -> None:
        self.client, self.seconds = client, seconds
        self._described: dict[str, Mapping[str, Any]] = {}
        self._listed: dict[str, tuple[object, ...]] = {}
        self._seen: dict[str, tuple[object, ...] | None] = {}
        """What the listing said of a job when it was last described."""
        self._listed_at = float("-inf")
        self._lock = threading.Lock()

    def create(self, request: Mapping[str, Any]) -> Refusal | None:
        """
        Raises:
            ClientError: it is not known whether there is a job: SageMaker could not be reached for long.
        """
        try:
            self.client.create_training_job(**request)
        except ClientError as error:
            code, text = _told(error)
            if error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500 or "Throttl" in code:
                raise
            return Refusal(code, text)
        return None

    def stop(self, name: str) -> None:
        """Ask for it."""
        try:
            self.client.stop_training_job(TrainingJobName=name)
        except ClientError as error:
            if _told(error)[0] != "ValidationException":  # it ended meanwhile
                raise

    def tags(self, name: str) -> dict[str, str]:
        job = self.describe(name)
        found = self.client.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"] if job else ()
        return {tag["Key"]: tag["Value"] for tag in found}

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
