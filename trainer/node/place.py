"""Which node this is, and where the others find it."""

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from trainer.contract.errors import ContractError, Problem
from trainer.contract.nodes import ADDRESS_VARIABLE, NODE_VARIABLE

JOB_INDEX = "JOB_COMPLETION_INDEX"
"""Set by Kubernetes in the pods of an Indexed Job."""

RESOURCES = Path("/opt/ml/input/config/resourceconfig.json")
"""Written by SageMaker into each container of a training job: ``current_host`` and ``hosts``."""

ELSEWHERE = ("192.0.2.1", 9)
"""An address that is nobody's (RFC 5737). Nothing is sent there: the kernel only says which of ours would be used."""


def node_number(nodes: int, environment: Mapping[str, str] = os.environ, resources: Path = RESOURCES) -> int:
    """The number of this node, 0 to ``nodes`` - 1.

    Raises:
        ContractError: nothing says which it is, or what says so does not fit ``nodes``.
    """
    for name in (NODE_VARIABLE, JOB_INDEX):
        if name in environment:
            return _checked(environment[name], nodes, name)
    if resources.is_file():
        found = json.loads(resources.read_text())
        hosts = sorted(found["hosts"], key=lambda host: (len(host), host))  # algo-2 before algo-10
        if len(hosts) != nodes:
            raise _misfit(str(resources), f"{len(hosts)} hosts", f"{nodes}")
        return hosts.index(found["current_host"])
    if nodes == 1:
        return 0
    raise _misfit("environment", f"neither {NODE_VARIABLE} nor {JOB_INDEX}", "the number of this node")


def own_address(environment: Mapping[str, str] = os.environ) -> str:
    """Where other nodes reach this one: what the launcher says, else what this host's connections come from."""
    if given := environment.get(ADDRESS_VARIABLE):
        return given
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)
        except OSError:  # no network but the loopback
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


def _checked(text: str, nodes: int, name: str) -> int:
    if not text.isdecimal() or int(text) >= nodes:
        raise _misfit(name, text, f"a number from 0 to {nodes - 1}")
    return int(text)


def _misfit(where: str, found: str, expected: str) -> ContractError:
    return ContractError("this host does not know which node it is", [Problem(where, found, expected)])
