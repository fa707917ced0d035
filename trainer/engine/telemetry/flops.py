"""Model FLOPs utilisation: what a step computes, and what the GPU could."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode

from trainer.contract.train_config import TrainConfig
from trainer.models.hydranet import HydraNet
from trainer.tasks import Task, example_inputs

TERA = 1e12

PEAK_TFLOPS: tuple[tuple[frozenset[str], Mapping[str, float]], ...] = tuple(
    (frozenset(words.split()), peaks)
    for words, peaks in (
        # Dense, never the data sheets' figures "with sparsity"; fp32 is TF32 where the GPU has it, as the trainer
        # allows it. The first entry whose words are all in the GPU's name counts. From NVIDIA's data sheets:
        # V100 (2020): no bf16, no TF32.
        ("v100 sxm2", {"fp32": 15.7, "fp16": 125.0}),
        ("v100 sxm3", {"fp32": 15.7, "fp16": 125.0}),
        ("v100 pcie", {"fp32": 14.0, "fp16": 112.0}),
        # A10G (NVIDIA and AWS, 2022), not the A10 with its 125.
        ("a10g", {"fp32": 35.0, "bf16": 70.0, "fp16": 70.0}),
        # L4 (2023): 120, 242 and 242 with sparsity.
        ("l4", {"fp32": 60.0, "bf16": 121.0, "fp16": 121.0}),
        # A100 (2020), PCIe and SXM alike.
        ("a100", {"fp32": 156.0, "bf16": 312.0, "fp16": 312.0}),
        # L40S (2023).
        ("l40s", {"fp32": 183.0, "bf16": 362.0, "fp16": 362.0}),
        # H100 (2022): half of 756, 1513 (PCIe), 835, 1671 (NVL) and 989, 1979 (SXM) with sparsity.
        ("h100 pcie", {"fp32": 378.0, "bf16": 756.0, "fp16": 756.0}),
        ("h100 nvl", {"fp32": 417.5, "bf16": 835.5, "fp16": 835.5}),
        ("h100", {"fp32": 494.5, "bf16": 989.5, "fp16": 989.5}),
        # H200 (2024): NVL 835, 1671 and SXM 989, 1979 with sparsity.
        ("h200 nvl", {"fp32": 417.5, "bf16": 835.5, "fp16": 835.5}),
        ("h200", {"fp32": 494.5, "bf16": 989.5, "fp16": 989.5}),
        # B200 (HGX, 2024): 2.2 and 4.5 PFLOPS with sparsity.
        ("b200", {"fp32": 1100.0, "bf16": 2250.0, "fp16": 2250.0}),
    )
)


def peak_flops(gpu: str, precision: str) -> float | None:
    """The most FLOP/s of a GPU by its name; None for one that is unknown, a MIG slice or a precision it lacks."""
    words = set(re.findall(r"[a-z0-9]+", gpu.lower()))
    if "mig" in words:
        return None
    peaks: Mapping[str, float] = next((peaks for entry, peaks in PEAK_TFLOPS if entry <= words), {})
    return peaks[precision] * TERA if precision in peaks else None


def step_flops(config: TrainConfig, tasks: Sequence[Task], samples: int) -> float:
    """FLOPs of the network's forward and backward pass of ``samples`` samples; losses and optimizer are left out."""
    with FlopCounterMode(display=False) as counter:
        _forward(config, tasks, samples).backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())


def forward_flops(config: TrainConfig, tasks: Sequence[Task], samples: int) -> float:
    """FLOPs of the network's forward pass of ``samples`` samples: two for a multiplication and its addition."""
    with FlopCounterMode(display=False) as counter:
        _forward(config, tasks, samples)
    return float(counter.get_total_flops())


def _forward(config: TrainConfig, tasks: Sequence[Task], samples: int) -> torch.Tensor:
    """The sum of a network's outputs.

    It is a copy without storage: the training's own tensors and random numbers stay as they are.
    """
    with torch.device("meta"):
        network = HydraNet(config.model, tasks, config.data.camera)
        given = example_inputs(config.data, tasks, samples)
    return torch.stack([output.float().sum() for output in network(given).values()]).sum()
