"""What a training runs on, and what that costs."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from trainer.contract.errors import ContractError, Problem
from trainer.contract.yaml_io import read_yaml

PRICES = Path(__file__).with_name("prices.yaml")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Hardware(_Model):
    """``hardware`` of a profile: one kind of instance, as many as the recipe's ``launch.num_nodes``.

    ``spot``: interruptible instances, which cost less. ``placement_minutes``: how long nodes may take to come before
    those that did are given back. ``region`` decides the price.
    """

    instance_type: str
    spot: bool = False
    placement_minutes: Annotated[float, Field(gt=0)] = 20.0
    region: str = "us-east-1"


class InstancePrice(_Model):
    """One instance type: its GPUs, EFA devices, memory in GiB, and US dollars an hour."""

    gpus: int
    efa: int = 0
    cpus: int
    memory_gib: int
    on_demand: float
    spot: float


def instance_of(hardware: Hardware) -> InstancePrice:
    """
    Raises:
        ContractError: the price table does not know the instance type.
    """
    table = read_yaml(PRICES)["instances"]
    name = hardware.instance_type.removeprefix("ml.")
    if name not in table:
        known = ", ".join(table)
        problem = Problem("profile", hardware.instance_type, f"one of {known}", field="hardware.instance_type")
        raise ContractError("this instance type is not known", [problem], f"Add it to {PRICES.name} with its price.")
    return InstancePrice.model_validate(table[name])


def usd_per_hour(hardware: Hardware, nodes: int) -> float:
    """Of ``nodes`` instances; SageMaker's (``ml.``) cost more than the same of EC2."""
    price = instance_of(hardware)
    table = read_yaml(PRICES)
    factor = table["sagemaker_factor"] if hardware.instance_type.startswith("ml.") else 1.0
    return nodes * factor * (price.spot if hardware.spot else price.on_demand)
