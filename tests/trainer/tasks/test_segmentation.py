import numpy as np
import torch

from trainer.contract.train_config import Task as TaskConfig
from trainer.tasks.segmentation import VOID, build


def test_a_batch_without_known_pixels_has_loss_zero():
    task = build(TaskConfig(classes=("a", "b")))
    logits = torch.randn(2, 2, 4, 4, requires_grad=True)
    loss = task.loss({"logits": logits}, {"mask": torch.full((2, 16, 16), VOID, dtype=torch.uint8)})
    loss.backward()
    assert loss.item() == 0.0
    assert torch.isfinite(logits.grad).all()


def test_the_ignored_id_and_values_beyond_the_classes_become_void():
    task = build(TaskConfig(classes=("a", "b", "c"), options={"ignore_id": 0}))
    assert task.scored(np.array([[0, 1, 2, 11]], np.uint8)).tolist() == [[VOID, 1, 2, VOID]]
