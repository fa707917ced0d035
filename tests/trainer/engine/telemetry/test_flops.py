import pytest
import torch

from trainer.contract.train_config import read_config
from trainer.engine.telemetry.flops import forward_flops, peak_flops, step_flops
from trainer.models.hydranet import HydraNet
from trainer.tasks import build_tasks

# bf16 of pytorch/torchtitan, torchtitan/tools/utils.py, get_peak_flops.
TORCHTITAN = {
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2.25e15,
    "NVIDIA L40S": 362e12,
}


@pytest.mark.parametrize(("gpu", "peak"), TORCHTITAN.items())
def test_peaks_are_those_of_torchtitan(gpu, peak):
    assert peak_flops(gpu, "bf16") == pytest.approx(peak, rel=1e-3)


def test_a_gpu_is_told_by_its_whole_name():
    assert peak_flops("NVIDIA L4", "bf16") == 121e12
    assert peak_flops("NVIDIA A10G", "fp16") == 70e12
    assert peak_flops("Tesla V100-SXM2-16GB", "fp16") == 125e12
    assert peak_flops("Tesla V100-PCIE-16GB", "fp32") == 14e12


@pytest.mark.parametrize(
    ("gpu", "precision"),
    [("NVIDIA GeForce RTX 9999", "bf16"), ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", "bf16"), ("Tesla V100-SXM2", "bf16")],
)
def test_an_unknown_gpu_a_slice_of_one_or_a_precision_it_lacks_has_no_peak(gpu, precision):
    assert peak_flops(gpu, precision) is None


def test_the_flops_of_a_pass_and_of_a_step_are_those_of_their_convolutions_by_hand(recipe):
    config = read_config(recipe)
    tasks = build_tasks(config.tasks)
    network = HydraNet(config.model, tasks)
    forward: list[int] = []

    def count(module: torch.nn.Conv2d, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        forward.append(2 * output.numel() * module.weight[0].numel())

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    network({"image": torch.zeros(4, 3, *config.data.image_size)})
    assert forward_flops(config, tasks, 4) == pytest.approx(sum(forward), rel=1e-6)
    # Backward is twice the forward pass, but the first convolution needs no gradient of the image.
    assert step_flops(config, tasks, 4) == pytest.approx(3 * sum(forward) - forward[0], rel=1e-6)


def test_counting_draws_no_random_number(recipe):
    config = read_config(recipe)
    before = torch.get_rng_state()
    step_flops(config, build_tasks(config.tasks), 2)
    assert torch.equal(before, torch.get_rng_state())
