"""What launched processes see of the environment, the same for every backend."""

import re
from collections.abc import Mapping
from pathlib import Path

PASSED_ON = re.compile(
    r"PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|VIRTUAL_ENV|PYTHONPATH|PYTHONHASHSEED|LD_LIBRARY_PATH"
    r"|(CUDA|NVIDIA|NCCL|TORCH|GLOO|FI)_(?!\w*(TOKEN|KEY|SECRET|PASSWORD))\w+|WANDB_MODE|DO_NOT_TRACK"
    r"|AWS_(REGION|DEFAULT_REGION|PROFILE|ENDPOINT_URL\w*|CONFIG_FILE|SHARED_CREDENTIALS_FILE|CA_BUNDLE)"
)
"""Environment that the trainer needs; everything else, secrets above all, stays here."""

ONLINE = ("WANDB_API_KEY", "WANDB_BASE_URL")
"""What experiment tracking needs besides, where somebody set ``WANDB_MODE=online`` beside it."""

FLIGHT_RECORDER = "flight-recorder"
EARLIER_NAMES = {
    "TORCH_FR_BUFFER_SIZE": "TORCH_NCCL_TRACE_BUFFER_SIZE",
    "TORCH_FR_DUMP_TEMP_FILE": "TORCH_NCCL_DEBUG_INFO_TEMP_FILE",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "NCCL_ASYNC_ERROR_HANDLING",
}
"""torch 2.13 reads both and lets the newer win: a value that somebody set under the earlier name must not lose."""


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of ``environment`` that is passed on; W&B's key only by ``WANDB_MODE=online``."""
    online = ONLINE if environment.get("WANDB_MODE") == "online" else ()
    return {name: value for name, value in environment.items() if PASSED_ON.fullmatch(name) or name in online}


def thread_environment(threads: int) -> dict[str, str]:
    """As many CPU threads for every library that has its own count."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))


def rank_environment(given: Mapping[str, str], attempt_dir: Path, network_interface: str | None) -> dict[str, str]:
    """What ranks that talk to each other need beside what somebody ``given`` set, which always wins.

    NCCL tears a rank down whose communication failed, and logs how it set itself up (NCCL_DEBUG=INFO) into files
    of the attempt, so that the ranks' own logs stay readable; torch's flight recorder is dumped there on a timeout.
    """
    defaults = {
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "TORCH_FR_BUFFER_SIZE": "2000",
        "TORCH_FR_DUMP_TEMP_FILE": str(attempt_dir / FLIGHT_RECORDER / "rank-"),
    }
    if "NCCL_DEBUG" not in given:
        defaults |= {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_FILE": str(attempt_dir / "nccl-%h-%p.log")}
    if network_interface:
        defaults |= {"NCCL_SOCKET_IFNAME": network_interface, "GLOO_SOCKET_IFNAME": network_interface}
    return {
        name: value
        for name, value in defaults.items()
        if name not in given and EARLIER_NAMES.get(name, name) not in given
    }
