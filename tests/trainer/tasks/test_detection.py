import numpy as np
import pytest
import torch

from trainer.contract.errors import ContractError
from trainer.contract.manifest import Box, Row
from trainer.contract.train_config import Task as TaskConfig
from trainer.data.augment import whole
from trainer.data.sample import Labelled
from trainer.tasks.detection import build, suppress

CLASSES = ("car", "person")


def labelled(*boxes: Box, size=(64, 96)) -> Labelled:
    row = Row(
        sample_id="a", source_ref="a.png", sha256="0" * 64, captured_at="2026-01-05T00:00:00Z", licence="x", origin="y",
        boxes=boxes,
    )  # fmt: skip
    return Labelled(row, whole(size, (64, 96)), size, None)


def perfect_outputs(targets):
    """What a head would say that had learnt the targets by heart: logits of the heat map, the raw box distances."""
    heat = torch.logit(targets["heat"].clamp(1e-4, 1 - 1e-4))
    return {"heat": heat, "box": torch.log(targets["box"]) - 0.7}


def test_a_category_that_the_recipe_does_not_know_is_named_with_its_sample():
    task, sample = build(TaskConfig(classes=CLASSES)), labelled(Box(category="tram", bbox=(10, 12, 30, 20)))
    outputs = {"heat": torch.zeros(2, 16, 24), "box": torch.zeros(4, 16, 24)}
    for call in (lambda: task.targets(sample), lambda: task.record(outputs, sample)):
        with pytest.raises(ContractError, match=r"'a': found a box of 'tram', expected one of \['car', 'person'\]"):
            call()


def test_decoding_the_targets_gives_the_boxes_back():
    boxes = [
        Box(category="car", bbox=(10, 12, 30, 20)),
        Box(category="person", bbox=(60, 8, 10, 28)),
        Box(category="car", bbox=(50, 44, 12, 12)),
    ]
    task = build(TaskConfig(classes=CLASSES))
    sample = labelled(*boxes)
    found = task.decode(perfect_outputs(task.targets(sample)), sample.source_size)
    confident = [(int(category), box) for box, score, category in zip(*found, strict=True) if score > 0.9]
    assert len(confident) == 3
    for category, box in confident:
        truth = [b.bbox for b in boxes if CLASSES.index(b.category) == category]
        assert min(np.abs(np.array(t) - box).max() for t in truth) < 0.5


def test_perfect_detections_score_one_in_coco_at_the_delivered_size():
    task = build(TaskConfig(classes=CLASSES))
    sample = labelled(Box(category="car", bbox=(20, 24, 60, 40)), size=(128, 192))
    record = task.record(perfect_outputs(task.targets(sample)), sample)
    assert task.metrics([record])["AP50"] == pytest.approx(1.0)


def test_the_loss_of_perfect_outputs_is_near_zero_and_far_below_an_untrained_heads():
    task = build(TaskConfig(classes=CLASSES))
    sample = labelled(Box(category="car", bbox=(10, 12, 30, 20)))
    targets = {name: value[None] for name, value in task.targets(sample).items()}
    perfect = {name: value[None] for name, value in perfect_outputs(task.targets(sample)).items()}
    untrained = {"heat": torch.full_like(perfect["heat"], -4.6), "box": torch.zeros_like(perfect["box"])}
    assert float(task.loss(perfect, targets)) < 0.05
    assert float(task.loss(untrained, targets)) > 1.0


def test_an_image_without_objects_has_a_finite_loss_and_no_box_loss():
    task = build(TaskConfig(classes=CLASSES))
    targets = {name: value[None] for name, value in task.targets(labelled()).items()}
    outputs = {
        "heat": torch.zeros(1, 2, 16, 24, requires_grad=True),
        "box": torch.zeros(1, 4, 16, 24, requires_grad=True),
    }
    loss = task.loss(outputs, targets)
    loss.backward()
    assert torch.isfinite(loss)
    assert outputs["box"].grad.abs().max() == 0


def test_an_ignored_box_neither_rewards_nor_punishes():
    task = build(TaskConfig(classes=CLASSES))
    targets = task.targets(labelled(Box(category="car", bbox=(8, 8, 40, 40), ignore=True)))
    assert targets["heat"].max() == 0
    assert targets["valid"][4:10, 4:10].max() == 0
    assert targets["valid"][14:, 16:].min() == 1


def test_suppression_keeps_the_best_of_a_class_and_other_classes():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 10, 10], [1, 1, 10, 10], [30, 30, 5, 5]], float)
    assert suppress(boxes, np.array([0, 0, 1, 0]), 0.5).tolist() == [0, 2, 3]


def test_unknown_options_are_refused_by_name():
    with pytest.raises(ContractError, match="nms_ious"):
        build(TaskConfig(classes=CLASSES, options={"nms_ious": 0.5}))
