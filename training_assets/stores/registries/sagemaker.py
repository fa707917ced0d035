"""SageMaker Model Registry: a model package a version, ``Approved`` while it is in production.

Region and credentials are boto3's own business (the environment, the host's role).
"""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from trainer.contract.files import digest_of
from training_assets.aws import client
from training_assets.profiles import SageMaker
from training_assets.stores.entries import AliasEntry, RegistryEntry
from training_assets.stores.events import Refused, Unreachable
from training_assets.stores.registries.base import facts_of, scores_of
from training_assets.stores.registry import Registry

LONGEST_GROUP, MOST_PROPERTIES, LONGEST_PROPERTY, LONGEST_REASON = 63, 50, 256, 1024
"""SageMaker's limits: ModelPackageGroupName, CustomerMetadataProperties and ApprovalDescription."""
NO_SUCH_GROUP = ("ValidationException", "ValidationError")


class SageMakerMirror:
    """The model package groups ``<group_prefix><project>``."""

    def __init__(self, settings: SageMaker, registry: Registry) -> None:
        self.settings, self.registry = settings, registry
        self.name = f"sagemaker-{settings.group_prefix}"

    def register(self, entry: RegistryEntry) -> None:
        with _asking():
            self._open_group(entry.project)
            if self._package_of(entry) is None:
                self._client.create_model_package(
                    ModelPackageGroupName=self._group(entry.project),
                    ModelPackageDescription=_description(entry),
                    ModelApprovalStatus="PendingManualApproval",
                    CustomerMetadataProperties=_properties(entry),
                    ClientToken=digest_of(entry.reference)[:36],
                    **self._files(entry),
                )

    def promote(self, entry: RegistryEntry, move: AliasEntry) -> None:
        with _asking():
            ours = self._package_of(entry)
            if ours is None:
                raise Refused(f"{entry.reference} is not in {self._group(entry.project)}")
            if ours["ModelApprovalStatus"] != "Approved":
                why = f"{move.alias} since {move.at:%Y-%m-%d %H:%M} UTC, by {move.by}. {move.reason}"
                self._set_status(ours, "Approved", why.strip())
            # Whoever deploys the newest approved package gets the one in production, after a way back too.
            for package in self._packages(entry.project):
                if (
                    package["ModelApprovalStatus"] == "Approved"
                    and package["ModelPackageArn"] != ours["ModelPackageArn"]
                ):
                    self._set_status(package, "PendingManualApproval", f"replaced by {entry.version}")

    def _set_status(self, package: Mapping[str, Any], status: str, why: str) -> None:
        arn = package["ModelPackageArn"]
        known = self._client.describe_model_package(ModelPackageName=arn)
        self._client.update_model_package(
            ModelPackageArn=arn,
            ModelApprovalStatus=status,
            ApprovalDescription=why[:LONGEST_REASON],
            CustomerMetadataProperties=known.get("CustomerMetadataProperties", {}),
        )

    def _files(self, entry: RegistryEntry) -> dict[str, Any]:
        """Where the version's files are: SageMaker can only take them from S3."""
        where = self.registry.where(entry)
        if not where.startswith("s3://"):
            return {}
        report = {"ContentType": "application/json", "S3Uri": f"{where}/eval_report.json"}
        files: dict[str, Any] = {"ModelMetrics": {"ModelQuality": {"Statistics": report}}}
        if self.settings.image is not None:
            source = {"S3Uri": f"{where}/", "S3DataType": "S3Prefix", "CompressionType": "None"}
            container = {"Image": self.settings.image, "ModelDataSource": {"S3DataSource": source}}
            types = {"SupportedContentTypes": ["image/jpeg"], "SupportedResponseMIMETypes": ["application/json"]}
            files["InferenceSpecification"] = {"Containers": [container], **types}
        return files

    def _open_group(self, project: str) -> None:
        from botocore.exceptions import ClientError

        group = self._group(project)
        try:
            self._client.describe_model_package_group(ModelPackageGroupName=group)
        except ClientError as error:
            if error.response["Error"]["Code"] not in NO_SUCH_GROUP:
                raise
            text = f"Registered versions of project {project}"
            tags = [{"Key": "training-assets:project", "Value": project}]
            self._client.create_model_package_group(
                ModelPackageGroupName=group, ModelPackageGroupDescription=text, Tags=tags
            )

    def _package_of(self, entry: RegistryEntry) -> Mapping[str, Any] | None:
        description = _description(entry)
        found = (one for one in self._packages(entry.project) if one.get("ModelPackageDescription") == description)
        return next(found, None)

    def _packages(self, project: str) -> Iterator[Mapping[str, Any]]:
        """The newest first."""
        pages = self._client.get_paginator("list_model_packages").paginate(
            ModelPackageGroupName=self._group(project), SortBy="CreationTime", SortOrder="Descending"
        )
        for page in pages:
            yield from page["ModelPackageSummaryList"]

    def _group(self, project: str) -> str:
        # A group's name has no underscores, a project's no hyphens: no two projects share a group.
        name = f"{self.settings.group_prefix}{project.replace('_', '-')}"
        if len(name) > LONGEST_GROUP:
            raise Refused(f"{name} is longer than {LONGEST_GROUP} characters: give a shorter group_prefix")
        return name

    @functools.cached_property
    def _client(self) -> Any:
        return client("sagemaker", tries=3, connect_timeout=3, read_timeout=20)


def _description(entry: RegistryEntry) -> str:
    """What a package is found by."""
    return f"{entry.reference}, run {entry.lineage.run.run_id}"


def _properties(entry: RegistryEntry) -> dict[str, str]:
    values = {**facts_of(entry), **{name: f"{value:.6g}" for name, value in scores_of(entry).items()}}
    return {name: str(value)[:LONGEST_PROPERTY] for name, value in list(values.items())[:MOST_PROPERTIES]}


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise Refused(str(error)) from None
    except BotoCoreError as error:
        raise Unreachable(str(error)) from None
