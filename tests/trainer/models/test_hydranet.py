"""Each head sees the pyramid from the stride that it asks for."""

import pytest
import torch

from trainer.contract.train_config import Model
from trainer.contract.train_config import Task as TaskConfig
from trainer.models.hydranet import HydraNet
from trainer.tasks import build_tasks

MODEL = Model(width=8, blocks=(1, 1, 1, 1), neck_channels=16)


def outputs_of(size: tuple[int, int], **segmentation: int) -> dict[str, torch.Tensor]:
    tasks = {
        "segmentation": TaskConfig(classes=("a", "b"), options=dict(segmentation)),
        "detection": TaskConfig(classes=("car",)),
    }
    torch.manual_seed(0)
    network = HydraNet(MODEL, build_tasks(tasks)).eval()
    return network({"image": torch.zeros(1, 3, *size)})


@pytest.mark.parametrize(
    ("options", "stride"),
    [({}, 4), ({"finer": 2}, 2), ({"finest": 2}, 2), ({"finest": 2, "finer": 2}, 1), ({"finest": 4, "finer": 4}, 1)],
)
def test_segmentation_predicts_at_the_stride_of_its_features_and_finer(options: dict, stride: int) -> None:
    found = outputs_of((64, 96), **options)
    assert tuple(found["segmentation.logits"].shape) == (1, 2, 64 // stride, 96 // stride)
    assert tuple(found["detection.heat"].shape) == (1, 1, 16, 24), "another task's wish changes nothing here"


def test_sides_that_are_no_multiples_of_the_strides_fit_too() -> None:
    found = outputs_of((60, 84), finest=2)
    assert tuple(found["segmentation.logits"].shape[2:]) == (30, 42)


def test_without_a_wish_for_finer_features_the_network_is_the_same_as_ever() -> None:
    tasks = build_tasks({"segmentation": TaskConfig(classes=("a", "b"))})
    assert len(HydraNet(MODEL, tasks).neck.lateral) == 4
    finer = build_tasks({"segmentation": TaskConfig(classes=("a", "b"), options={"finest": 2})})
    assert len(HydraNet(MODEL, finer).neck.lateral) == 5
