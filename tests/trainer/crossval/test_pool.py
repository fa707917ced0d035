"""Who may be trained at the same time as whom."""

import pytest

from trainer.contract.errors import ContractError
from trainer.contract.train_config import read_config
from trainer.crossval.pool import devices_of, refuse_torchrun

PARALLEL = "cross_validation.parallel=cv-parallel"


def devices(recipe, *overrides):
    return devices_of(read_config(recipe, overrides, environment={}))


def test_one_run_at_a_time_has_what_the_recipe_says(recipe):
    assert devices(recipe) == [()]


def test_in_parallel_each_run_has_one_device_to_itself(recipe):
    each = ("launch.devices=1", "launch.accelerator=cpu")
    assert devices(recipe, PARALLEL) == [each, each]
    assert devices(recipe, PARALLEL, "launch.devices=auto") == [each]


def test_on_gpus_each_run_has_its_own(recipe, monkeypatch):
    import trainer.engine.fork

    monkeypatch.setattr(trainer.engine.fork, "gpus", lambda: 8)
    cuda = (PARALLEL, "launch.accelerator=cuda")
    assert devices(recipe, *cuda, "launch.devices=[5, 2]") == [("launch.devices=[5]",), ("launch.devices=[2]",)]
    assert devices(recipe, *cuda, "launch.devices=2") == [("launch.devices=[0]",), ("launch.devices=[1]",)]
    assert len(devices(recipe, *cuda, "launch.devices=auto")) == 8


@pytest.mark.parametrize(
    ("override", "field"),
    [
        ("launch.strategy=ddp", "launch.strategy"),
        ("launch.strategy=ddp_fork", "launch.strategy"),
        ("launch.strategy=fsdp", "launch.strategy"),
        ("launch.num_nodes=2", "launch.num_nodes"),
    ],
)
def test_runs_in_parallel_are_never_distributed(recipe, override, field):
    with pytest.raises(ContractError) as caught:
        devices(recipe, PARALLEL, override)
    assert [problem.field for problem in caught.value.problems] == [field]
    assert "parallel=serial" in str(caught.value)


def test_runs_on_several_nodes_are_not_started_from_here(recipe):
    with pytest.raises(ContractError, match="num_nodes"):
        devices(recipe, "launch.num_nodes=2")


def test_a_rank_of_torchrun_starts_no_cross_validation():
    refuse_torchrun({})
    refuse_torchrun({"RANK": "0", "WORLD_SIZE": "1"})
    with pytest.raises(ContractError, match="ddp_fork"):
        refuse_torchrun({"RANK": "1", "WORLD_SIZE": "2"})
