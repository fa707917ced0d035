"""FSx's data repository associations: what links a directory of the file system to an S3 prefix."""

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trainer.contract.errors import Problem
from training_assets.profiles.staging import Link
from training_assets.stores.fast_storage.aws import asking, client, token
from training_assets.stores.fast_storage.base import Amount, Progress, StagingError, StorageUnavailable

PATIENCE = 1800.0
"""Seconds that an association may take to become available."""

COMING = ("CREATING", "UPDATING")
ADVICE = {
    "MISCONFIGURED": "Mend what it says (FSx's rights on the bucket, the bucket's event notifications); FSx looks again"
    " within 15 minutes.",
    "FAILED": "It does not recover: delete the association (the directory or the bucket is gone) and run this again.",
}


@dataclass(frozen=True)
class Associations:
    """The associations of one file system."""

    file_system_id: str
    poll_seconds: float = 5.0

    def ensure(self, link: Link, path: str, progress: Progress) -> None:
        """Have the directory ``path`` (from the file system's root: ``/inbox``) linked as ``link`` says; waits for it.

        Raises:
            StagingError: it is linked to something else, or FSx cannot use the link.
            StorageUnavailable: it is being deleted, or takes too long.
        """
        found = self._at(path) or self._create(link, path)
        deadline = time.monotonic() + PATIENCE
        while True:
            name = f"association {found['AssociationId']} of {path}"
            if found["DataRepositoryPath"].rstrip("/") != link.uri:
                problem = Problem(name, f"linked to {found['DataRepositoryPath']}", link.uri, field="staging.links")
                raise StagingError("a directory is linked to another place", [problem], "Correct the profile.")
            if found["Lifecycle"] not in COMING:
                return _refuse_unusable(found, name)
            if time.monotonic() > deadline:
                raise StorageUnavailable(f"{name} is still {found['Lifecycle']} after {PATIENCE:.0f} s")
            progress(Amount(f"waiting for the association of {path}", 0))
            time.sleep(self.poll_seconds)
            found = self._named(found["AssociationId"])

    def _at(self, path: str) -> dict[str, Any] | None:
        return next((one for one in self._all() if one["FileSystemPath"].rstrip("/") == path.rstrip("/")), None)

    def _all(self) -> Iterator[dict[str, Any]]:
        asked: dict[str, Any] = {"Filters": [{"Name": "file-system-id", "Values": [self.file_system_id]}]}
        while True:
            with asking(f"fsx:DescribeDataRepositoryAssociations of {self.file_system_id}"):
                page = self._client.describe_data_repository_associations(**asked)
            yield from page["Associations"]
            if not page.get("NextToken"):
                return
            asked["NextToken"] = page["NextToken"]

    def _named(self, name: str) -> dict[str, Any]:
        with asking(f"fsx:DescribeDataRepositoryAssociations {name}"):
            (found,) = self._client.describe_data_repository_associations(AssociationIds=[name])["Associations"]
        return dict(found)

    def _create(self, link: Link, path: str) -> dict[str, Any]:
        # Without policies for automatic import and export: tasks do both, and say when they are done.
        with asking(f"fsx:CreateDataRepositoryAssociation of {path} with {link.uri}"):
            created = self._client.create_data_repository_association(
                FileSystemId=self.file_system_id,
                FileSystemPath=path,
                DataRepositoryPath=link.uri,
                ClientRequestToken=token(self.file_system_id, path, link.uri),
            )
        return dict(created["Association"])

    @functools.cached_property
    def _client(self) -> Any:
        return client("fsx")


def _refuse_unusable(found: dict[str, Any], name: str) -> None:
    state = found["Lifecycle"]
    if state == "DELETING":
        raise StorageUnavailable(f"{name} is being deleted")
    if state != "AVAILABLE":
        message = found.get("FailureDetails", {}).get("Message", "no details")
        problem = Problem(name, f"{state}: {message}", "AVAILABLE")
        raise StagingError("FSx cannot use a data repository association", [problem], ADVICE.get(state, ""))
