"""How a sweep searches: the parts ``strategy``, ``early_stop`` and ``pbt`` of ``sweep.yaml``."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

StrategyName = Literal["random", "grid", "bayes", "asha", "hyperband", "bayes+asha", "pbt"]
AtLeast1 = Annotated[int, Field(ge=1)]
Positive = Annotated[FiniteFloat, Field(gt=0)]
Share = Annotated[FiniteFloat, Field(gt=0, lt=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Strategy(_Model):
    """Which search, and by whom."""

    name: StrategyName = Field(
        default="bayes+asha",
        description="random, grid, bayes: where to look, each trial in full; asha, hyperband: random, the weak ended"
        " early; bayes+asha: both; pbt: a population that copies its best.",
    )
    backend: Literal["own", "ray"] = Field(default="own", description="ray: Ray Tune's search and scheduler.")
    seed: Annotated[int, Field(ge=0)] = 0


class EarlyStop(_Model):
    """When a trial is not worth its next epoch. Rules beside the strategy's own are off unless asked for."""

    first_rung: AtLeast1 = Field(default=3, description="The first epoch at which trials are compared.")
    eta: Annotated[int, Field(ge=2)] = Field(default=3, description="One of so many goes on beyond a rung.")
    plateau: AtLeast1 | None = Field(default=None, description="Epochs without an improvement that end a trial.")
    min_delta: Annotated[FiniteFloat, Field(ge=0)] = Field(default=0.0, description="Smallest improvement.")
    quantile: Share | None = Field(
        default=None, description="End a trial below this quantile of what others had after the same epoch."
    )
    running_median: bool = Field(
        default=False, description="End a trial whose best is below the median of the others' running averages."
    )
    after_epochs: AtLeast1 = Field(default=3, description="Epochs before quantile, median and guardrails decide.")
    min_trials: AtLeast1 = Field(default=5, description="Trials that quantile and median need to compare with.")
    guardrails: tuple[str, ...] = Field(
        default=(), description="Constraints that end a trial while it runs: 'detection/AP50 >= 0.2'."
    )


class Pbt(_Model):
    """Population based training (Jaderberg et al., 2017)."""

    population: Annotated[int, Field(ge=2)] = 8
    every: AtLeast1 = Field(default=3, description="Epochs between exploit and explore.")
    quantile: Share = Field(default=0.2, description="The worst of this share copy the best of this share.")
    factors: tuple[Positive, Positive] = Field(default=(0.8, 1.2), description="Numbers are multiplied by one of them.")
    resample: Annotated[FiniteFloat, Field(ge=0, le=1)] = Field(
        default=0.25, description="Probability that a value is drawn anew instead."
    )
