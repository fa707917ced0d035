"""Our registry beside each of the others, and what each of them says when it is asked by its own client."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import boto3
import pytest

from training_assets.profiles import SageMaker, Wandb
from training_assets.stores.entries import AliasEntry, Draft, RegistryEntry
from training_assets.stores.events import Outbox, Sink, promotion_events, registration_events
from training_assets.stores.objects import store_at
from training_assets.stores.registries import Mirror, MirrorSink, SageMakerMirror, WandbMirror
from training_assets.stores.registry import Registry


class Looking(Protocol):
    """How a test looks into a registry."""

    def versions(self) -> dict[str, dict[str, Any]]:
        """What is known of each version of the project ``scenes``, by its reference."""

    def production(self) -> str | None:
        """The reference of the one in production."""


@dataclass
class Embedded:
    registry: Registry

    def versions(self) -> dict[str, dict[str, Any]]:
        found = {}
        for version in self.registry.versions("scenes"):
            entry = self.registry.find(f"scenes@{version}")
            code, data = entry.lineage.code, entry.lineage.dataset
            facts = {"dataset_dvc": data.dvc_hash, "git_sha": code.git_sha, "image_digest": code.image_digest}
            found[entry.reference] = {**facts, "test/detection/AP50": entry.metrics["test"]["detection/AP50"]}
        return found

    def production(self) -> str | None:
        entry = self.registry.resolve("scenes", "production")
        return entry.reference if entry else None


class SageMakerPackages:
    GROUP = "tests-scenes"

    def __init__(self) -> None:
        self.client = boto3.client("sagemaker")

    def packages(self) -> list[dict[str, Any]]:
        try:
            listed = self.client.list_model_packages(ModelPackageGroupName=self.GROUP)["ModelPackageSummaryList"]
        except self.client.exceptions.ClientError:
            return []
        return [self.client.describe_model_package(ModelPackageName=one["ModelPackageArn"]) for one in listed]

    def versions(self) -> dict[str, dict[str, Any]]:
        packages = self.packages()
        found = {one["CustomerMetadataProperties"]["reference"]: one["CustomerMetadataProperties"] for one in packages}
        assert len(found) == len(packages)  # none is there twice
        return {
            name: {**facts, "test/detection/AP50": float(facts["test/detection/AP50"])} for name, facts in found.items()
        }

    def production(self) -> str | None:
        approved = [one for one in self.packages() if one["ModelApprovalStatus"] == "Approved"]
        assert len(approved) <= 1
        return approved[0]["CustomerMetadataProperties"]["reference"] if approved else None


@dataclass
class WandbRuns:
    """The offline runs in the order of their making, read back from what ``wandb sync`` would send."""

    root: Path

    def artifacts(self) -> list[dict[str, Any]]:
        runs = sorted(
            self.root.glob("scenes/[!.]*/wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns
        )
        return [artifact for path in runs for artifact in logged_artifacts(path)]

    def versions(self) -> dict[str, dict[str, Any]]:
        registered = [one for one in self.artifacts() if "production" not in one["aliases"]]
        found = {one["metadata"]["reference"]: one["metadata"] for one in registered}
        assert len(found) == len(registered)
        return {name: {**facts, **facts["metrics"]} for name, facts in found.items()}

    def production(self) -> str | None:
        moved = [one["metadata"]["reference"] for one in self.artifacts() if "production" in one["aliases"]]
        return moved[-1] if moved else None


def logged_artifacts(path: Path) -> Iterator[dict[str, Any]]:
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    store = DataStore()
    store.open_for_scan(str(path))
    while (data := store.scan_data()) is not None:
        record = Record()
        record.ParseFromString(data)
        artifact = record.artifact if record.HasField("artifact") else record.request.log_artifact.artifact
        if artifact.name:
            files = [entry.ref for entry in artifact.manifest.contents]
            yield {
                "name": artifact.name,
                "type": artifact.type,
                "aliases": list(artifact.aliases),
                "metadata": json.loads(artifact.metadata),
                "files": files,
            }


@dataclass
class Flaky:
    """A mirror that fails as it is told to."""

    mirror: Mirror
    fails: list[Exception] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.mirror.name

    def register(self, entry: RegistryEntry) -> None:
        if self.fails:
            raise self.fails.pop(0)
        self.mirror.register(entry)

    def promote(self, entry: RegistryEntry, move: AliasEntry) -> None:
        if self.fails:
            raise self.fails.pop(0)
        self.mirror.promote(entry, move)


class World:
    """Our registry in S3, one that mirrors it, and the outbox between them."""

    def __init__(self, root: Path, kind: str, draft: Callable[..., Draft], files: dict[str, Path]) -> None:
        bucket = f"bucket-{uuid4().hex[:8]}"
        boto3.client("s3").create_bucket(Bucket=bucket)
        self.registry = Registry(root, store_at(f"s3://{bucket}/archive"))
        self.draft, self.files, self.said = draft, files, list[str]()
        self.looking: Looking = Embedded(self.registry)
        sinks: list[Sink] = []
        if kind != "embedded":
            self.mirror = Flaky(self._mirror(kind))
            sinks = [MirrorSink(self.mirror, self.registry)]
        self.outbox = Outbox(root, sinks)

    def _mirror(self, kind: str) -> Mirror:
        if kind == "sagemaker":
            self.looking = SageMakerPackages()
            return SageMakerMirror(SageMaker(group_prefix="tests-", image="1.dkr.ecr/serve@sha256:1"), self.registry)
        self.looking = WandbRuns(self.registry.root / "wandb")
        return WandbMirror(Wandb(entity="team"), self.registry)

    def register(self, run_id: str) -> str:
        entry = self.registry.register(self.draft(run_id), self.files)
        self.tell()
        return entry.version

    def promote(self, version: str) -> None:
        self.registry.promote("scenes", version, by="ann", reason="better at night")
        self.tell()

    def tell(self) -> None:
        events = (*registration_events(self.registry, "scenes"), *promotion_events(self.registry, "scenes"))
        self.outbox.emit(events, self.said.append)


@pytest.fixture(params=["embedded", "sagemaker", pytest.param("wandb", marks=pytest.mark.slow)])
def world(request: pytest.FixtureRequest, moto: Any, tmp_path: Path, draft: Any, files: Any) -> World:
    if request.param == "sagemaker":
        forget_packages()
    return World(tmp_path / "store", request.param, draft, files)


def forget_packages() -> None:
    """moto's server is shared by the tests, and its packages cannot be deleted one by one."""
    from moto.sagemaker.models import sagemaker_backends

    for account in sagemaker_backends.values():
        for backend in account.values():
            backend.reset()
