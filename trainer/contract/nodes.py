"""What the nodes of one attempt tell each other and the launcher, through the attempt's directory.

``nodes/<i>/address.json``: node ``i`` has started and can be reached there; node 0's is where the ranks meet.
``nodes/<i>/end.json``: how it ended. ``first-end.json``: which node ended badly first, whom the others follow.
``start.json``: what a node is to do, where its backend cannot hold that itself.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeVar
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.contract.files import write_text

NODE_VARIABLE = "TRAINING_ASSETS_NODE"
"""Environment variable with the number of the node, for launchers that start each node by itself."""

LEADER_VARIABLE = "TRAINING_ASSETS_LEADER"
"""Environment variable, set by a node for what it starts, with the process to tell to stop: the node's own."""

ADDRESS_VARIABLE = "TRAINING_ASSETS_NODE_ADDRESS"
"""Environment variable with the address that other nodes reach this one at; without it the host's own is taken."""

PORT_TAKEN = re.compile(r"failed to listen on any local network address\. port: (\d+),.*EADDRINUSE")
"""What torchrun says, as of 2.13, where somebody else has the master port."""

NodeCause = Literal["exit", "signal", "spot", "deadline", "alone", "followed"]
"""Why a node ended: its command did, it was told to, its host is taken away, its time was over, the others did not
come, or another node ended."""


Kind = TypeVar("Kind", bound=BaseModel)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeStart(_Model):
    """What a node is to do, for backends that hold only short arguments and environment values: ``arguments`` follow
    ``python -m trainer.node``, ``environment`` is added to what its image and backend set."""

    arguments: tuple[str, ...]
    environment: dict[str, str] = {}


class NodeAddress(_Model):
    """Where node ``node`` is: ``pid`` on its host, ``at`` in seconds since 1970."""

    node: int
    host: str
    port: int
    pid: int
    at: float


class NodeEnd(_Model):
    """How a node ended. ``exit_code`` is that of its leading process, −N for signal N; ``oom`` says in words what the
    kernel's out-of-memory killer did meanwhile; ``log_begin`` is where the last start's output begins in its log."""

    node: int
    exit_code: int
    cause: NodeCause
    at: float
    oom: str = ""
    log_begin: int = 0


class FirstEnd(_Model):
    """The node that ended badly first, and why."""

    node: int
    cause: NodeCause
    at: float


def node_dir(attempt_dir: Path, node: int) -> Path:
    return attempt_dir / "nodes" / str(node)


def start_path(attempt_dir: Path) -> Path:
    return attempt_dir / "start.json"


def address_path(attempt_dir: Path, node: int) -> Path:
    return node_dir(attempt_dir, node) / "address.json"


def end_path(attempt_dir: Path, node: int) -> Path:
    return node_dir(attempt_dir, node) / "end.json"


def first_end_path(attempt_dir: Path) -> Path:
    return attempt_dir / "first-end.json"


def node_log(attempt_dir: Path, node: int) -> Path:
    """Node 0 speaks for the attempt: its log lies beside the attempt's directory."""
    return attempt_dir.with_name(f"{attempt_dir.name}.log") if node == 0 else node_dir(attempt_dir, node) / "log.txt"


def rank_logs(attempt_dir: Path, node: int) -> Path:
    return node_dir(attempt_dir, node) / "ranks"


def write_once(path: Path, value: BaseModel) -> bool:
    """Write ``value`` to ``path`` if nobody has; False where somebody was before."""
    draft = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    write_text(draft, value.model_dump_json() + "\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def read_address(attempt_dir: Path, node: int) -> NodeAddress | None:
    return _read(NodeAddress, address_path(attempt_dir, node))


def read_end(attempt_dir: Path, node: int) -> NodeEnd | None:
    return _read(NodeEnd, end_path(attempt_dir, node))


def read_first_end(attempt_dir: Path) -> FirstEnd | None:
    return _read(FirstEnd, first_end_path(attempt_dir))


def nodes_started(attempt_dir: Path) -> Iterator[int]:
    """The nodes that have come so far."""
    for path in (attempt_dir / "nodes").glob("*/address.json"):
        with contextlib.suppress(ValueError):
            yield int(path.parent.name)


def _read(kind: type[Kind], path: Path) -> Kind | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
