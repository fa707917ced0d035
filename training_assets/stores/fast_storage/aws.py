"""How AWS is asked: bounded retries with jitter, and its refusals in words. Region and credentials are boto3's own."""

import contextlib
import posixpath
from collections.abc import Iterator
from typing import Any

from trainer.contract.errors import Problem
from trainer.contract.files import digest_of
from training_assets import aws
from training_assets.stores.fast_storage.base import StagingError, StorageUnavailable

ATTEMPTS = 6
"""Tries of one request: botocore's standard mode waits a random part of 1, 2, 4, … 20 seconds between them."""

PASSING = {
    "InternalException",
    "InternalFailure",
    "InternalServerError",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
"""Errors that pass by themselves: after the last try the step may be tried again."""

ADVICE = {
    "AccessDenied": "Give the role of Dagster's processes this action (deploy/).",
    "AccessDeniedException": "Give the role of Dagster's processes this action (deploy/).",
    "FileSystemNotFound": "Correct staging.file_system_id in the profile, or the region.",
    "IncompatibleParameterError": "Run it again.",
    "NoSuchBucket": "Correct the URI in the profile, or create the bucket.",
    "ServiceLimitExceeded": "This is a quota: ask AWS for a higher one, or remove what is no longer used.",
}


def client(service: str, attempts: int = ATTEMPTS) -> Any:
    return aws.client(service, attempts)


def token(*parts: Any) -> str:
    """An idempotency token: the same for the same request."""
    return digest_of(list(parts))[:40]


@contextlib.contextmanager
def asking(what: str) -> Iterator[None]:
    """Say in our own words what AWS answers to ``what`` (service and operation).

    Raises:
        StorageUnavailable: after all tries it was busy or out of reach.
        StagingError: it refused.
    """
    from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

    try:
        yield
    except ClientError as error:
        code, message = code_of(error), error.response["Error"].get("Message") or str(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in PASSING or status >= 500:
            raise StorageUnavailable(f"{what}: {code}: {message}") from None
        limit = f" (limit: {error.response['Limit']})" if error.response.get("Limit") else ""
        problem = Problem(what, f"{code}: {message}{limit}", "the request to be granted")
        raise StagingError("AWS refused", [problem], ADVICE.get(code, "")) from None
    except (ConnectionError, HTTPClientError) as error:
        raise StorageUnavailable(f"{what}: {error}") from None
    except BotoCoreError as error:
        raise StagingError(
            "AWS could not be asked", [Problem(what, str(error), "a request that can be sent")]
        ) from None


def code_of(error: Any) -> str:
    return str(error.response["Error"]["Code"])


def objects_below(source: str) -> dict[str, int]:
    """The objects below ``source``: path relative to it → bytes. Keys that end in a slash are folders and left out.

    Raises:
        StagingError: there are none, or a key is no path inside the directory.
    """
    prefix = f"{source.rstrip('/')}/"
    bucket, _, key_prefix = prefix.removeprefix("s3://").partition("/")
    found: dict[str, int] = {}
    with asking(f"s3:ListObjectsV2 of {prefix}"):
        for page in client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key_prefix):
            for one in page.get("Contents", ()):
                if not one["Key"].endswith("/"):
                    found[one["Key"].removeprefix(key_prefix)] = one["Size"]
    if not found:
        raise StagingError("nothing to bring", [Problem(prefix, "no objects", "the files of a delivery")])
    if strange := [name for name in found if posixpath.normpath(name) != name or name.startswith(("/", "../"))]:
        problems = [Problem(prefix, repr(name), "a key that is a path inside the prefix") for name in strange]
        raise StagingError("a source cannot be brought", problems)
    return found


def read_object(uri: str) -> str:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    content: bytes = client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return content.decode(errors="replace")
