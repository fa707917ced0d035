"""What instances have, and what they cost."""

import functools
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from trainer.contract.errors import ContractError, Problem
from trainer.contract.yaml_io import read_yaml
from training_assets.profiles.hardware import Hardware

PRICES = Path(__file__).with_name("prices.yaml")


class InstancePrice(BaseModel):
    """One instance type: its GPUs, EFA devices, memory in GiB, and US dollars an hour."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpus: int
    efa: int = 0
    cpus: int
    memory_gib: int
    on_demand: float
    spot: float


@functools.cache
def _table() -> dict[str, Any]:
    # Asked at each poll of each training: read once.
    table: dict[str, Any] = read_yaml(PRICES)
    return table


def instance_of(hardware: Hardware) -> InstancePrice:
    """
    Raises:
        ContractError: the price table does not know the instance type.
    """
    table = _table()["instances"]
    name = hardware.instance_type.removeprefix("ml.")
    if name not in table:
        known = ", ".join(table)
        problem = Problem("profile", hardware.instance_type, f"one of {known}", field="hardware.instance_type")
        raise ContractError("this instance type is not known", [problem], f"Add it to {PRICES.name} with its price.")
    return InstancePrice.model_validate(table[name])


def usd_per_hour(hardware: Hardware, nodes: int) -> float:
    """Of ``nodes`` instances; SageMaker's (``ml.``) cost more than the same of EC2."""
    price = instance_of(hardware)
    factor = _table()["sagemaker_factor"] if hardware.instance_type.startswith("ml.") else 1.0
    return nodes * factor * (price.spot if hardware.spot else price.on_demand)
