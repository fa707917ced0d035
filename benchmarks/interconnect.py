"""A step on n GPUs takes ``compute + (1 - overlap) · all_reduce(n)``; the efficiency is ``compute`` over that.

``all_reduce(n) = min(ring, tree)``, as NCCL chooses (Jeaugey, Massively Scale Your Deep Learning Training with
NCCL 2.4, 2019), with ``bytes`` of fp32 gradients in ``buckets`` of DDP:
ring ``2 (n - 1) / n · bytes / bandwidth + buckets · 2 (n - 1) · latency``;
tree ``2 · bytes / bandwidth + buckets · 2 log2(n) · latency``.
``compute = max(flops / (peak · utilisation), kernels · launch)``: small networks wait for their kernels' launches.
``bytes``, ``flops`` and ``kernels`` are counted on the recipe's network; ``overlap`` is what was measured on this host,
at most ``(buckets - 1) / buckets``: the last bucket is full only when there is nothing left to compute.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import contestants
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from trainer.contract.train_config import read_config
from trainer.data.loader import Batch

DDP_FIRST_BUCKET, DDP_BUCKET = 1 << 20, 25 << 20


@dataclass(frozen=True)
class Link:
    """Bytes/s of one GPU in one direction, and seconds of one hop."""

    name: str
    bandwidth: float
    latency: float


# NVIDIA H100 datasheet: NVLink 900 GB/s, both directions together. AWS p5.48xlarge: EFA of 3200 Gbit/s for 8 GPUs.
# Latencies and the three figures below are assumptions, the customary order of magnitude.
NVLINK = Link("NVLink 4 (450 GB/s a direction)", 450e9, 3e-6)
EFA = Link("EFA (3200 Gbit/s a node of 8)", 50e9, 20e-6)
PEAK_FLOPS = 495e12
"""H100 SXM, TF32, dense (datasheet: 989 with sparsity)."""
UTILISATION = 0.3
LAUNCH_S = 5e-6


def predict(world_sizes: Sequence[int], share: int, overlap: float) -> list[dict[str, Any]]:
    """The efficiency for each number of GPUs with ``share`` samples on each, and what it is made of."""
    counted = count(share)
    compute = max(counted["flops"] / (PEAK_FLOPS * UTILISATION), counted["kernels"] * LAUNCH_S)
    overlap = min(overlap, (counted["buckets"] - 1) / counted["buckets"])
    predicted = []
    for gpus in world_sizes:
        link = NVLINK if gpus <= 8 else EFA
        times = all_reduce(gpus, counted["gradient_bytes"], counted["buckets"], link)
        algorithm = min(times, key=times.__getitem__)
        exposed = (1 - overlap) * times[algorithm]
        predicted.append(
            {
                "gpus": gpus,
                "efficiency": round(compute / (compute + exposed), 4),
                "compute_s": compute,
                "all_reduce_s": times[algorithm],
                "algorithm": algorithm,
                "ring_s": times["ring"],
                "tree_s": times["tree"],
                "overlap": overlap,
                "interconnect": link.name,
                "bandwidth_bytes_per_s": link.bandwidth,
                "latency_s": link.latency,
                "peak_flops": PEAK_FLOPS,
                "utilisation": UTILISATION,
                "launch_s": LAUNCH_S,
                "samples_per_gpu": share,
                **counted,
            }
        )
    return predicted


def all_reduce(gpus: int, size: int, buckets: int, link: Link) -> dict[str, float]:
    """Seconds by algorithm."""
    return {
        "ring": 2 * (gpus - 1) / gpus * size / link.bandwidth + buckets * 2 * (gpus - 1) * link.latency,
        "tree": 2 * size / link.bandwidth + buckets * 2 * math.log2(gpus) * link.latency,
    }


def count(share: int) -> dict[str, int]:
    """Of one step of the recipe on one GPU: floating-point operations, kernels, bytes of gradients, buckets."""
    config = read_config(contestants.RECIPE)
    network = contestants.Network(config)
    batch = _blank_batch(network, config.data.image_size, share)
    with FlopCounterMode(display=False) as flops, _Operations() as operations:
        network(batch).backward()
    size = 4 * sum(parameter.numel() for parameter in network.parameters())
    buckets = 1 + math.ceil(max(0, size - DDP_FIRST_BUCKET) / DDP_BUCKET)
    return {
        "flops": flops.get_total_flops(),
        "kernels": operations.count,
        "gradient_bytes": size,
        "buckets": buckets,
    }


def _blank_batch(network: contestants.Network, image_size: tuple[int, int], share: int) -> Batch:
    height, width = image_size
    h, w = height // 4, width // 4
    classes = {task.name: len(task.classes) for task in network.tasks}  # type: ignore[attr-defined]
    targets = {
        "heat": torch.zeros(share, classes["detection"], h, w),
        "box": torch.ones(share, 4, h, w),
        "weight": torch.ones(share, h, w),
        "valid": torch.ones(share, h, w),
    }
    image = torch.zeros(share, 3, height, width, dtype=torch.uint8)
    mask = torch.zeros(share, height, width, dtype=torch.uint8)
    return {"image": image, "segmentation.mask": mask} | {f"detection.{name}": value for name, value in targets.items()}


class _Operations(TorchDispatchMode):
    """Counts the operations that are not mere views: on a GPU each is about a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))
