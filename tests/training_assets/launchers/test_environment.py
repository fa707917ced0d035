"""What is set where ranks are launched, and that a value that somebody set is left alone."""

import re
from pathlib import Path

import pytest
import torch

from trainer.contract.train_config import Launch
from training_assets.launchers import LaunchSpec
from training_assets.launchers.environment import rank_environment
from training_assets.launchers.local import environment_of

ATTEMPT = Path("/runs/r/attempts/a")


def test_nccl_tears_down_dumps_and_logs_into_the_attempt() -> None:
    assert rank_environment({}, ATTEMPT, None) == {
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "TORCH_FR_BUFFER_SIZE": "2000",
        "TORCH_FR_DUMP_TEMP_FILE": "/runs/r/attempts/a/flight-recorder/rank-",
        "NCCL_DEBUG": "INFO",
        "NCCL_DEBUG_FILE": "/runs/r/attempts/a/nccl-%h-%p.log",
    }


def test_the_profiles_interface_is_for_nccl_and_gloo() -> None:
    ranks = rank_environment({}, ATTEMPT, "eth0")
    assert (ranks["NCCL_SOCKET_IFNAME"], ranks["GLOO_SOCKET_IFNAME"]) == ("eth0", "eth0")


def test_what_somebody_set_wins_also_under_an_earlier_name() -> None:
    given = {"NCCL_DEBUG": "WARN", "TORCH_NCCL_TRACE_BUFFER_SIZE": "50", "NCCL_ASYNC_ERROR_HANDLING": "0",
             "TORCH_NCCL_DEBUG_INFO_TEMP_FILE": "/mine", "NCCL_SOCKET_IFNAME": "ib0"}  # fmt: skip
    assert rank_environment(given, ATTEMPT, "eth0") == {
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "GLOO_SOCKET_IFNAME": "eth0",
    }


@pytest.mark.slow
def test_torch_knows_the_names_that_are_set() -> None:
    torch_root = Path(torch.__file__).parent
    headers = (torch_root / "include/torch/csrc/distributed/c10d").glob("*.hpp")
    known = " ".join(path.read_text() for path in headers).encode() + (torch_root / "lib/libtorch_cpu.so").read_bytes()
    for name in rank_environment({}, ATTEMPT, None):
        if name.startswith("TORCH_"):
            assert re.search(rb"\b" + name.encode() + rb"\b", known), name


def test_a_single_process_gets_threads_and_no_nccl() -> None:
    environment = environment_of(LaunchSpec(("evaluate",), Path("/r"), "a", threads=3))
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "3"
    assert not [name for name in environment if name.startswith("TORCH_FR")]


def test_ranks_get_the_recipes_threads() -> None:
    environment = environment_of(LaunchSpec(("train",), Path("/r"), "a", launch=Launch(threads=4)))
    assert environment["OMP_NUM_THREADS"] == "4"
    assert environment["TRAINING_ASSETS_ATTEMPT"] == "a"
