"""What the EKS launcher must know besides the hardware."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
SecretKey = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*/[A-Za-z0-9._-]+$")]


class Settings(BaseModel):
    """``backend`` of a profile whose launcher is ``eks``.

    ``context`` of the kubeconfig is whom to talk to as whom; None: as the service account of the pod that asks.
    ``claim`` is the volume claim of the file system that has the store, mounted at ``claim_path``.
    ``queue``: a Kueue LocalQueue, which starts all
    nodes together. ``node_groups``: who labels hosts as spot or on demand. ``secrets``: environment variables from
    ``secret/key``. ``cpus``, ``memory_gib``, ``shared_memory_gib`` and ``hugepages_mib`` of each node are by default
    taken from the instance type. ``keep_seconds``: how long the API keeps what has ended. ``retry_seconds``: how long
    an API that throttles, fails or does not answer is asked again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    namespace: Name = "training-assets"
    service_account: Name = "trainer"
    claim: Name = "fsx"
    claim_path: Path = Path("/fsx")
    context: str | None = None
    kubeconfig: Path | None = None
    queue: Name | None = None
    priority_class: Name | None = None
    node_groups: Literal["managed", "karpenter"] = "managed"
    node_selector: dict[str, str] = {}
    secrets: dict[str, SecretKey] = {}
    python: str = "python"
    user: Annotated[int, Field(ge=1)] = 10001
    cpus: Annotated[float, Field(gt=0)] | None = None
    memory_gib: Annotated[float, Field(gt=0)] | None = None
    shared_memory_gib: Annotated[float, Field(gt=0)] | None = None
    hugepages_mib: Annotated[int, Field(ge=0)] | None = None
    keep_seconds: Annotated[int, Field(ge=0)] = 604_800
    poll_seconds: Annotated[float, Field(gt=0)] = 5.0
    retry_seconds: Annotated[float, Field(gt=0)] = 300.0
