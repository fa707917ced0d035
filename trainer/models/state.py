"""States of models and optimizers: read safely, told apart by a digest."""

import hashlib
from pathlib import Path
from typing import Any

import torch


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A state that this project saved: tensors and plain values only, nothing is unpickled into code."""
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


def state_sha256(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """sha256 over names, types, shapes and bytes of every tensor of the model and of the optimizer's state."""
    digest = hashlib.sha256()
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for number, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": torch.as_tensor(value) for name, value in entries.items()}
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
