"""States of models and optimizers: read safely, told apart by a digest."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A state that this project saved: tensors and plain values only, nothing is unpickled into code."""
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


def sha256_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
