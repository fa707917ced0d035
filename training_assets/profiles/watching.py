"""The profile fields ``cloudwatch`` and ``watch``: what is told of a running training, and when it is stopped."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CloudWatch(_Model):
    """Figures of running trainings go to Amazon CloudWatch, into this namespace."""

    namespace: Annotated[str, Field(pattern=r"^[A-Za-z0-9._/#-]{1,255}$")] = "TrainingAssets"

    @field_validator("namespace")
    @classmethod
    def _is_ours(cls, value: str) -> str:
        if value.startswith("AWS/"):
            raise ValueError("a name that does not begin with AWS/, which is AWS's own")
        return value


class Watch(_Model):
    """Limits of a training; None: not watched.

    ``max_cost_usd`` is what all attempts at it may cost (US dollars), ``idle_gpu_minutes`` how long its GPUs may be
    less than a tenth busy, ``no_progress_minutes`` how long it may go without finishing a step, its start included.
    """

    max_cost_usd: Annotated[float, Field(gt=0)] | None = None
    idle_gpu_minutes: Annotated[float, Field(gt=0)] | None = None
    no_progress_minutes: Annotated[float, Field(gt=0)] | None = None
