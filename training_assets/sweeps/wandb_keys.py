"""The keys of a W&B sweep file, as its own schema has them (package ``sweeps`` 0.3.0, config/schema.json).

``parameters`` are left as they are written: ``parameters.py`` reads them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from training_assets.sweeps.settings import AtLeast1, StrategyName

Method = Literal["random", "grid", "bayes", "custom"]
Imputed = Literal["latest", "best", "worst"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WandbMetric(_Model):
    """``goal`` is minimize where none is given, as to W&B."""

    name: str
    goal: Literal["minimize", "maximize"] = "minimize"
    target: FiniteFloat | None = Field(default=None, description="The sweep is through once a trial reaches it.")
    impute: Imputed = "worst"
    impute_while_running: Literal["latest", "best", "worst", "false"] = "false"


class EarlyTerminate(_Model):
    """Hyperband by W&B: brackets from ``min_iter`` up by ``eta``, or from ``max_iter`` down in ``s`` steps."""

    type: Literal["hyperband"]
    min_iter: AtLeast1 | None = None
    max_iter: AtLeast1 | None = None
    s: Annotated[FiniteFloat, Field(ge=1)] | None = None
    eta: Annotated[FiniteFloat, Field(gt=1)] = 3
    strict: bool = True

    @model_validator(mode="after")
    def _has_a_rung(self) -> "EarlyTerminate":
        if self.min_iter is None and (self.max_iter is None or self.s is None):
            raise ValueError("early_terminate needs min_iter, or max_iter and s")
        return self

    @property
    def first_rung(self) -> int:
        """The first epoch at which trials are compared."""
        if self.min_iter is not None:
            return self.min_iter
        return max(1, int((self.max_iter or 1) / self.eta ** (self.s or 1)))


class Controller(BaseModel):
    # The schema leaves this one open.
    model_config = ConfigDict(extra="allow", frozen=True)

    type: Literal["local", "cloud"]


class Scheduler(_Model):
    engine: Literal["optuna", "ax", "wandb"]
    source: str | None = None
    optimizer: str | None = None
    search_space: str | None = None


class WandbKeys(_Model):
    """What a W&B sweep file may say. Where W&B runs nothing, only some of it means something: see docs/sweeps.md."""

    apiVersion: str | None = None
    kind: Literal["sweep"] | None = None
    name: str | None = None
    description: str = ""
    project: str | None = None
    entity: str | None = None
    program: str | None = None
    command: tuple[Any, ...] | None = None
    job: str | None = None
    image_uri: str | None = None
    controller: Controller | None = None
    scheduler: Scheduler | None = None
    method: Method | None = None
    metric: WandbMetric | None = None
    metrics: Annotated[tuple[WandbMetric, ...], Field(min_length=2)] | None = None
    early_terminate: EarlyTerminate | None = None
    run_cap: AtLeast1 | None = None
    parameters: Annotated[dict[str, Any], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> "WandbKeys":
        if self.metric is not None and self.metrics is not None:
            raise ValueError("metric and metrics cannot both be given")
        return self


STRATEGIES: Mapping[tuple[str | None, bool], StrategyName] = {
    ("random", False): "random",
    ("random", True): "asha",
    ("bayes", False): "bayes",
    ("bayes", True): "bayes+asha",
    ("grid", False): "grid",
    ("grid", True): "grid",
}
"""What W&B's method is here, without and with its Hyperband, whose rungs are ASHA's."""


def in_our_words(written: Mapping[str, Any]) -> dict[str, Any]:
    """``written`` with our keys added that W&B's stand for; what is wrong is left to be found."""
    try:
        theirs = WandbKeys.model_validate({key: written[key] for key in WandbKeys.model_fields if key in written})
    except ValidationError:
        return dict(written)
    said: dict[str, Any] = {}
    metrics = theirs.metrics or (() if theirs.metric is None else (theirs.metric,))
    if metrics and "objective" not in written:
        said["objective"] = [{"metric": one.name, "direction": one.goal} for one in metrics]
        said["target"] = metrics[0].target
    if (theirs.method, theirs.early_terminate is not None) in STRATEGIES:
        said["strategy"] = STRATEGIES[theirs.method, theirs.early_terminate is not None]
    if theirs.early_terminate is not None:
        said["early_stop"] = _early_stop(theirs.early_terminate, theirs.method)
    said |= written
    budget = said.get("budget", {})
    if theirs.run_cap is not None and isinstance(budget, Mapping):
        said["budget"] = {"max_trials": theirs.run_cap, **budget}
    return said


def _early_stop(theirs: EarlyTerminate, method: str | None) -> dict[str, Any]:
    rungs = {"first_rung": theirs.first_rung, "eta": max(2, round(theirs.eta))}
    if method != "grid":
        return rungs
    # A grid has no rungs here: what is not among the best 1/eta of the others after as many epochs is ended.
    return {**rungs, "quantile": 1 - 1 / theirs.eta, "after_epochs": theirs.first_rung}
