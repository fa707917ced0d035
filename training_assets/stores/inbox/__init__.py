"""The inbox: where curation and mining put what is to be learnt from. One file a kind of storage, one line here."""

from pathlib import Path

from trainer.contract.errors import ContractError, Problem
from training_assets.stores.inbox.base import Arrival, DeliveryFound, Inbox, InboxUnreachable, Incomplete, SliceFound
from training_assets.stores.inbox.local import LocalInbox
from training_assets.stores.inbox.s3 import S3Inbox

__all__ = [
    "Arrival",
    "DeliveryFound",
    "Inbox",
    "InboxUnreachable",
    "Incomplete",
    "LocalInbox",
    "S3Inbox",
    "SliceFound",
    "inbox_of",
]


def inbox_of(uri: str) -> Inbox:
    """The inbox at ``uri``: an absolute path, or ``s3://bucket/prefix``.

    Raises:
        ContractError: neither.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return LocalInbox(Path(uri))
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ContractError("no usable inbox", [Problem("inbox", uri, "a directory, or s3://bucket/prefix")])
    return S3Inbox(bucket, prefix)
