"""Object stores: one protocol, one file a kind of storage, one line here."""

import os
from pathlib import Path

from trainer.contract.errors import ContractError, Problem
from training_assets.stores.objects.base import (
    Changed,
    CorruptObject,
    ObjectRead,
    ObjectStore,
    Stored,
    StoreUnreachable,
)
from training_assets.stores.objects.local import LocalObjects
from training_assets.stores.objects.s3 import S3Objects

__all__ = [
    "Changed",
    "CorruptObject",
    "LocalObjects",
    "ObjectRead",
    "ObjectStore",
    "S3Objects",
    "StoreUnreachable",
    "Stored",
    "store_at",
]


def store_at(uri: str | os.PathLike[str]) -> ObjectStore:
    """The store whose root is ``uri``: a directory, or ``s3://bucket/prefix``; a ``UPath`` of either will do.

    Raises:
        ContractError: neither.
    """
    text = str(uri)
    scheme, separator, rest = text.partition("://")
    if not separator and text:
        return LocalObjects(Path(text))
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ContractError(
            "no usable object store", [Problem("store", f"'{text}'", "a directory, or s3://bucket/prefix")]
        )
    return S3Objects(bucket, prefix)
