"""``devices: auto | N | [0, 2]`` on a machine with so many GPUs."""

import pytest

from trainer.contract.errors import ContractError
from trainer.contract.train_config import Launch
from training_assets.launchers.devices import processes_of, refuse_misfit, visible_gpus


@pytest.mark.parametrize(
    ("launch", "gpus", "processes"),
    [
        ({}, 0, 1),
        ({}, 8, 8),
        ({"accelerator": "cpu"}, 8, 1),
        ({"accelerator": "gpu", "devices": ["auto"]}, 4, 4),
        ({"devices": 2}, 0, 2),
        ({"devices": 2}, 8, 2),
        ({"accelerator": "gpu", "strategy": "ddp_fork", "devices": [0, 2, 5, 6]}, 8, 4),
    ],
)
def test_ranks_follow_the_devices(launch: dict, gpus: int, processes: int) -> None:
    refuse_misfit(asked := Launch.model_validate(launch), gpus)
    assert processes_of(asked, gpus) == processes


@pytest.mark.parametrize(
    ("launch", "gpus", "said"),
    [
        ({"num_nodes": 2}, 8, r"launch\.num_nodes': found 2, expected 1: this machine's GPUs belong to one node"),
        ({"accelerator": "cuda"}, 0, r"launch\.accelerator': found cuda, expected cpu or auto: no GPU"),
        ({"devices": 4}, 2, r"launch\.devices': found 4, expected no more than the GPUs of this machine, 0 to 1"),
        ({"accelerator": "cuda", "devices": [0, 4]}, 4, r"launch\.devices': found \[0, 4\]"),
    ],
)
def test_what_this_machine_does_not_have_is_refused(launch: dict, gpus: int, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        refuse_misfit(Launch.model_validate(launch), gpus)


def test_hidden_gpus_do_not_count() -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0,3"}) == 2
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == 0
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == 0
