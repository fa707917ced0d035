"""How a sweep searches and what it may cost: the parts of ``sweep.yaml`` that are settings and nothing else."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat

StrategyName = Literal["random", "grid", "bayes", "asha", "hyperband", "bayes+asha", "pbt"]
AtLeast1 = Annotated[int, Field(ge=1)]
Positive = Annotated[FiniteFloat, Field(gt=0)]
Share = Annotated[FiniteFloat, Field(gt=0, lt=1)]

PART = r"\s*(\d+(?:\.\d+)?)\s*([dhms])\s*"
UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def _seconds(value: Any) -> Any:
    """``2h``, ``1h30m``, ``90s``, ``1.5d`` in seconds; what is no text is left to pydantic."""
    if not isinstance(value, str):
        return value
    if not re.fullmatch(f"({PART})+", value):
        raise ValueError(f"{value!r} is not a time: seconds, or text like 2h, 90m or 1h30m")
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(PART, value))


Seconds = Annotated[Positive, BeforeValidator(_seconds)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Strategy(_Model):
    """Which search, and by whom."""

    name: StrategyName = Field(
        default="bayes+asha",
        description="random, grid, bayes: where to look, each trial in full; asha, hyperband: random, the weak ended"
        " early; bayes+asha: both; pbt: a population that copies its best.",
    )
    backend: Literal["own", "optuna", "ray"] = Field(
        default="own",
        description="optuna: Optuna proposes in place of our model; ray: Ray Tune's search and scheduler.",
    )
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


class Budget(_Model):
    """Caps that are never passed; what has none is not limited. ``parallelism`` is how many trials run at once."""

    max_trials: AtLeast1 | None = None
    parallelism: AtLeast1 = 1
    gpu_hours: Positive | None = Field(default=None, description="Of all trials together.")
    wall_time: Seconds | None = Field(default=None, description="From the sweep's start: seconds, or text like 2h.")
    max_cost_usd: Positive | None = Field(
        default=None, description="By launchers/prices.yaml; refused where the instances have no price."
    )
    expected_trial_seconds: Seconds | None = Field(
        default=None, description="What a whole trial is believed to take until one has finished."
    )


class Stability(_Model):
    """Once more the best few, with other seeds on a small part of the data: is the order that of the models?"""

    best: AtLeast1 = Field(default=3, description="How many of the leaderboard.")
    seeds: Annotated[int, Field(ge=2)] = Field(default=3, description="Trainings of each, of another seed each.")
    share: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = Field(
        default=0.25, description="Of the training set's shards; none: samples decide."
    )
    samples: AtLeast1 | None = Field(default=None, description="Of the training set, instead of a share.")
    min_effect: Annotated[FiniteFloat, Field(ge=0)] = Field(
        default=0.5, description="Smallest effect size (Cohen's d over the seeds) by which the first is the winner."
    )


class CrossValidation(_Model):
    """What one trial is: 1 fold and 1 seed are a plain training."""

    folds: AtLeast1 = 1
    seeds: AtLeast1 = 1
    method: Literal["kfold", "stratified", "shuffle", "region", "region-stratified", "none"] | None = Field(
        default=None, description="How folds are cut; none with one fold, kfold with several."
    )

    @property
    def runs(self) -> int:
        return self.folds * self.seeds
