"""A client of an AWS service. Region and credentials are boto3's own business: environment, files, the host's role."""

from typing import Any


def client(
    service: str,
    tries: int,
    connect_timeout: float = 5,
    read_timeout: float = 30,
    region: str | None = None,
    session: Any = None,
    **more: Any,
) -> Any:
    """A client that repeats what is throttled, answered with 5xx or broken off ``tries`` times in all, with jitter.

    Time-outs in seconds. ``session`` is one of boto3's other than the default, ``more`` goes to botocore's ``Config``.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": tries},
        **more,
    )
    return (session or boto3).client(service, region_name=region, config=config)
