"""The random number generators of one rank as tensors, so that a resumed run draws what it would have drawn."""

import random
from typing import Any

import numpy as np
import torch


def seed_rng(seed: int) -> None:
    """Seed all that :func:`rng_state` gives; two runs of one recipe draw the same, whoever draws."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """torch's (CPU and the rank's GPU), numpy's global and Python's generator."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    state = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor([version, *words], dtype=torch.int64),
        "python_gauss": torch.tensor([gauss is not None, gauss or 0.0], dtype=torch.float64),
        "numpy": torch.tensor([*np.asarray(keys).tolist(), position, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_rng(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Set the generators to what :func:`rng_state` gave."""
    torch.set_rng_state(state["torch"])
    version, *words = state["python"].tolist()
    has_gauss, gauss = state["python_gauss"].tolist()
    random.setstate((version, tuple(words), gauss if has_gauss else None))
    *keys, position, legacy_gauss = state["numpy"].tolist()
    numpy_state: Any = ("MT19937", np.array(keys, dtype=np.uint32), position, legacy_gauss, float(state["numpy_gauss"]))
    np.random.set_state(numpy_state)
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
