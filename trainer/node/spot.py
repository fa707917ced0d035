"""The notice that a spot instance is about to be taken away, as its host's metadata service gives it.

ECS draining leaves tasks that no service started running without a signal, so a node asks by itself. Two minutes lie
between notice and loss (EC2 User Guide, "Spot Instance interruption notices"); IMDSv2 asks for a token first.
"""

import os
import urllib.request
from collections.abc import Mapping

ENDPOINT_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
SERVICE = "http://169.254.169.254"
TOKEN_SECONDS = 21_600
TIMEOUT = 2.0
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def is_to_be_lost(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this host has been told that it will be taken away; False where nobody says so."""
    service = environment.get(ENDPOINT_VARIABLE, SERVICE).rstrip("/")
    try:
        token = _ask(f"{service}/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)})
        _ask(f"{service}/latest/meta-data/spot/instance-action", "GET", {"X-aws-ec2-metadata-token": token})
    except OSError:  # 404: no notice; no service: no instance
        return False
    return True


def _ask(url: str, method: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - the metadata service
    with DIRECTLY.open(request, timeout=TIMEOUT) as answer:
        text: str = answer.read().decode()
        return text
