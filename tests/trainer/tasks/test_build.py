"""From a recipe's tasks and model to the real ones: what does not exist is named."""

import pytest

from trainer.contract.errors import ContractError
from trainer.contract.train_config import Model, Task
from trainer.models.hydranet import HydraNet
from trainer.tasks import build_tasks


@pytest.mark.parametrize("name", ["detectoin", "base", "coco"])
def test_a_task_that_does_not_exist_is_named_with_those_that_do(name):
    with pytest.raises(ContractError, match=f"'{name}'.*detection.*segmentation"):
        build_tasks({name: Task(classes=("a",))})


@pytest.mark.parametrize("name", ["detection", "segmentation"])
def test_a_head_without_classes_is_refused(name):
    with pytest.raises(ContractError, match=f"tasks.{name}.classes"):
        build_tasks({name: Task()})


def test_a_backbone_that_does_not_exist_is_named():
    with pytest.raises(ContractError, match=r"vit.*resnet"):
        HydraNet(Model(backbone="vit"), [])


@pytest.mark.parametrize("options", [{"class_weights": [1.0]}, {"class_weights": [1.0, -1.0]}, {"ignore_id": 256}])
def test_segmentation_options_that_do_not_fit_the_classes_are_refused(options):
    with pytest.raises(ContractError, match=next(iter(options))):
        build_tasks({"segmentation": Task(classes=("a", "b"), options=options)})
