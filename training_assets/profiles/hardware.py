"""The profile field ``hardware``: what nodes are started on."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Hardware(BaseModel):
    """``hardware`` of a profile: one kind of instance, as many as the recipe's ``launch.num_nodes``.

    ``spot``: interruptible instances, which cost less. ``placement_minutes``: how long nodes may take to come before
    those that did are given back. ``region`` decides the price.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    instance_type: str
    spot: bool = False
    placement_minutes: Annotated[float, Field(gt=0)] = 20.0
    region: str = "us-east-1"
