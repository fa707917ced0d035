"""``sweep.yaml``: what is tuned, towards what, how, and within which budget (docs/sweeps.md).

A superset of the W&B sweep file: any of those is a sweep here too, and what it says counts unless ours says it.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, field_validator, model_validator

from trainer.contract.errors import ContractError, Problem, problems_of
from trainer.contract.files import digest_of
from trainer.contract.train_config import Name
from trainer.contract.yaml_io import read_yaml
from training_assets.sweeps.goals import Constraint, Direction, Goals, Objective
from training_assets.sweeps.metric_names import better
from training_assets.sweeps.parameters import space_of
from training_assets.sweeps.settings import AtLeast1, Budget, CrossValidation, EarlyStop, Pbt, Stability, Strategy
from training_assets.sweeps.space import Space
from training_assets.sweeps.wandb_keys import WandbKeys, in_our_words

SWEEP_FILE = "sweep.yaml"


class Aim(BaseModel):
    """An objective; the direction follows from the metric's name where none is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    direction: Direction | None = None


class Sweep(WandbKeys):
    """A sweep file. What it leaves open of ``recipe``, ``objective`` and ``epochs`` ``settled`` takes from the recipe
    (``fitting.py``).
    """

    recipe: Name | None = Field(default=None, description="The recipe that is tuned.")
    window: str | None = Field(default=None, description="First day of the window; none: the newest.")
    objective: tuple[Aim, ...] = Field(default=(), description="A metric, or several, the first ranks.")
    target: FiniteFloat | None = Field(
        default=None, description="Of the first objective: a trial that reaches it ends all."
    )
    constraints: tuple[str, ...] = Field(default=(), description="'latency_p95_ms <= 20': what a trial must keep.")
    strategy: Strategy = Strategy()
    early_stop: EarlyStop = EarlyStop()
    pbt: Pbt = Pbt()
    budget: Budget = Budget()
    stability: Stability | None = Field(default=None, description="Not asked where it is not given.")
    top_k: AtLeast1 = Field(default=3, description="How many models are packaged.")
    epochs: AtLeast1 | None = Field(default=None, description="Of a whole trial; none: the recipe's.")
    cross_validation: CrossValidation = CrossValidation()
    max_regression_percent: Annotated[FiniteFloat, Field(ge=0)] | None = Field(
        default=None, description="By how many percent a trial may be worse than production on a safety-critical slice."
    )
    baseline: Literal["include", "exclude"] = Field(default="include", description="First, the recipe as it is.")

    @model_validator(mode="before")
    @classmethod
    def _translated(cls, value: Any) -> Any:
        return in_our_words(value) if isinstance(value, dict) else value

    @field_validator("objective", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        written = value if isinstance(value, list | tuple) else [value]
        return tuple({"metric": one} if isinstance(one, str) else one for one in written)

    @field_validator("strategy", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("constraints")
    @classmethod
    def _readable(cls, constraints: tuple[str, ...]) -> tuple[str, ...]:
        _parsed(constraints)
        return constraints

    @field_validator("early_stop")
    @classmethod
    def _readable_guardrails(cls, early_stop: EarlyStop) -> EarlyStop:
        _parsed(early_stop.guardrails)
        return early_stop

    @property
    def digest(self) -> str:
        """sha256 of all that the file says."""
        return digest_of(self.model_dump(mode="json"))

    @cached_property
    def space(self) -> Space:
        return space_of(self.parameters, SWEEP_FILE)

    @property
    def goals(self) -> Goals:
        objectives = (Objective(one.metric, one.direction or better(one.metric)) for one in self.objective)
        return Goals(tuple(objectives), _parsed(self.constraints))


class Settled(Sweep):
    """A sweep that leaves nothing open."""

    recipe: Name
    objective: Annotated[tuple[Aim, ...], Field(min_length=1)]
    epochs: AtLeast1


def _parsed(constraints: Iterable[str]) -> tuple[Constraint, ...]:
    return tuple(map(Constraint.parse, constraints))


def read_sweep(path: Path) -> Sweep:
    """The sweep file at ``path``; whether it fits its recipe is ``fitting.settled``'s to say.

    Raises:
        ContractError: names each field that is wrong.
    """
    value = read_yaml(path)
    if not isinstance(value, dict):
        raise ContractError(f"{path} is not a sweep", [Problem(str(path), repr(value), "a mapping")])
    try:
        sweep = Sweep.model_validate(value)
    except ValidationError as error:
        raise ContractError(f"{path} is not a usable sweep", problems_of(error, str(path))) from None
    space_of(sweep.parameters, str(path))
    return sweep
